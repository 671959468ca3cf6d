"""Segment records: what is known of an encoded segment, kept as JSON beside it."""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from blake3 import blake3
from pydantic import TypeAdapter, ValidationError

from fanreel.codecs import Codec
from fanreel.errors import SegmentDamagedError
from fanreel.mp4.bitstream import FORMS
from fanreel.segments.fingerprints import FINGERPRINT_BYTES, THUMBNAIL_BYTES

__all__ = [
    "Sample",
    "SegmentEvent",
    "SegmentRecord",
    "check_record",
    "choose_samples",
    "pack",
    "packet_digest",
    "record_from_json",
    "record_to_json",
    "unpack",
]

PACKET_DIGEST_BYTES = 8
"""Enough to tell a packet from millions of others; `payload_digest` is of the whole payload."""

SAMPLES_A_SEGMENT = 3


@dataclass(frozen=True, slots=True)
class Sample:
    """A frame as it was fed to the encoder.

    Attributes:
        frame: Frame of the segment, from 0; a keyframe, so that it decodes alone.
        thumbnail: 32 x 18 luma, base64.
    """

    frame: int
    thumbnail: str


@dataclass(frozen=True, slots=True)
class SegmentEvent:
    """How a segment came to be. For people to read: nothing is decided by it.

    Attributes:
        host: Name of the machine.
        session: Process that encoded it.
        waited_seconds: How long its shard waited for a session.
        started_at: Unix time at which its first frame was made.
        ended_at: Unix time at which it was complete.
        retries: How often its shard had been tried before.
        device: What encoded it, for people: a GPU's name and UUID, or "cpu".
        fallback: Why it was not the best encoder that the job allows, with the driver's number; empty if it was.
    """

    host: str = ""
    session: int = 0
    waited_seconds: float = 0.0
    started_at: float = 0.0
    ended_at: float = 0.0
    retries: int = 0
    device: str = ""
    fallback: str = ""


@dataclass(frozen=True, slots=True)
class SegmentRecord:
    """An encoded segment.

    Packets are in decode order; frames count from the segment's start.

    Attributes:
        address: Its address in the store.
        frames_digest: Digest of all that decided its planes.
        frame_count: Frames, and packets.
        encoder: Which encoder made it.
        parameter_sets: As many as the codec has (`Form.parameter_sets`), hexadecimal.
        reorder_frames: How many frames DTS runs before PTS order.
        payload_offset: Where the packets begin in the file.
        payload_bytes: The sum of their sizes; they lie without gaps.
        payload_digest: BLAKE3 of all packets.
        packet_sizes: Bytes of each packet.
        packet_frames: Which frame each packet shows.
        packet_digests: The first 8 bytes of the BLAKE3 of each, base64 of all.
        keyframes: Frames that are IDRs.
        samples: Up to three frames as fed.
        fingerprints: 20 bytes of each frame as fed, in frame order, base64 of all.
        codec: What it is coded in; a record without it is of an earlier release, which made H.264 only.
        event: How it came to be.
    """

    address: str
    frames_digest: str
    frame_count: int
    encoder: str
    parameter_sets: tuple[str, ...]
    reorder_frames: int
    payload_offset: int
    payload_bytes: int
    payload_digest: str
    packet_sizes: tuple[int, ...]
    packet_frames: tuple[int, ...]
    packet_digests: str
    keyframes: tuple[int, ...]
    samples: tuple[Sample, ...]
    fingerprints: str
    codec: Codec = Codec.H264
    event: SegmentEvent = SegmentEvent()

    @property
    def file_bytes(self) -> int:
        """Length of the segment's file."""
        return self.payload_offset + self.payload_bytes

    @property
    def packet_digest_list(self) -> list[bytes]:
        """The digest of each packet."""
        return unpack(self.packet_digests, PACKET_DIGEST_BYTES)

    @property
    def fingerprint_list(self) -> list[bytes]:
        """The fingerprint of each frame."""
        return unpack(self.fingerprints, FINGERPRINT_BYTES)


_RECORD = TypeAdapter(SegmentRecord)


def record_to_json(record: SegmentRecord) -> bytes:
    """Return the record as JSON."""
    return _RECORD.dump_json(record)


def record_from_json(text: bytes) -> SegmentRecord:
    """Return the record that `text` holds.

    Raises:
        SegmentDamagedError: It is no record, or contradicts itself.
    """
    try:
        record = _RECORD.validate_json(text)
    except ValidationError as error:
        raise SegmentDamagedError(f"not a segment record: {error.errors()[0]['msg']}") from None
    check_record(record)
    return record


def check_record(record: SegmentRecord) -> None:
    """Return if the parts of a record agree with each other, so that no reader has to check again.

    Raises:
        SegmentDamagedError: They do not; the message says which.
    """
    try:
        wrong = next(_contradictions(record), None)
    except (ValueError, binascii.Error) as error:
        wrong = str(error)
    if wrong:
        raise SegmentDamagedError(f"the record of segment {record.address[:12]} contradicts itself: {wrong}")


def _contradictions(record: SegmentRecord) -> Iterator[str]:
    count = record.frame_count
    if count < 1 or len(record.packet_sizes) != count or sorted(record.packet_frames) != list(range(count)):
        yield f"its packets do not show each of {count} frames once"
    if min(record.packet_sizes) < 1 or sum(record.packet_sizes) != record.payload_bytes or record.payload_offset < 0:
        yield f"its packets do not add up to {record.payload_bytes} bytes at {record.payload_offset}"
    late = max(index - frame for index, frame in enumerate(record.packet_frames))
    if late > record.reorder_frames:
        yield f"a packet comes {late} frames late, its reorder delay is {record.reorder_frames}"
    for name, text, length_bytes in (
        ("packet_digests", record.packet_digests, count * PACKET_DIGEST_BYTES),
        ("fingerprints", record.fingerprints, count * FINGERPRINT_BYTES),
        *(("a thumbnail", sample.thumbnail, THUMBNAIL_BYTES) for sample in record.samples),
    ):
        if len(b64decode(text, validate=True)) != length_bytes:
            yield f"{name} is not {length_bytes} bytes long"
    sampled = {sample.frame for sample in record.samples}
    if 0 not in record.keyframes or not sampled <= set(record.keyframes) <= set(range(count)):
        yield f"keyframes {record.keyframes[:8]} and samples {sorted(sampled)} of {count} frames"
    if len(record.parameter_sets) != FORMS[record.codec].parameter_sets:
        yield f"{len(record.parameter_sets)} parameter sets, {record.codec} has {FORMS[record.codec].parameter_sets}"
    if not all(bytes.fromhex(unit) for unit in record.parameter_sets):
        yield "a parameter set is empty"


def choose_samples(keyframes: Sequence[int]) -> tuple[int, ...]:
    """Return the keyframes of which a thumbnail is kept: the first, the middle and the last."""
    chosen = {0, len(keyframes) // 2, len(keyframes) - 1}
    return tuple(keyframes[index] for index in sorted(chosen))[:SAMPLES_A_SEGMENT]


def packet_digest(payload: bytes) -> bytes:
    """Return the first 8 bytes of a packet's BLAKE3."""
    return blake3(payload).digest(PACKET_DIGEST_BYTES)


def pack(items: Sequence[bytes]) -> str:
    """Return items of equal length as one base64 text."""
    return b64encode(b"".join(items)).decode()


def unpack(text: str, length_bytes: int) -> list[bytes]:
    """Return the items of `length_bytes` each that `text` holds."""
    data = b64decode(text)
    return [data[start : start + length_bytes] for start in range(0, len(data), length_bytes)]
