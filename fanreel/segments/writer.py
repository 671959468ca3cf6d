"""One segment, from packets to a file that plays and a record of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from blake3 import blake3

from fanreel.encode.libav import EncodedPacket
from fanreel.errors import EncodeFaultError, storage_error
from fanreel.mp4.writer import Chunk, write_mp4
from fanreel.plan.encoding import EncodingPlan
from fanreel.plan.segments import Segment
from fanreel.plan.timebase import TimeBase
from fanreel.segments.fingerprints import Fingerprinter, make_thumbnail
from fanreel.segments.record import Sample, SegmentEvent, SegmentRecord, choose_samples, pack, packet_digest
from fanreel.segments.tracks import video_track

__all__ = ["SegmentWriter"]


@dataclass(slots=True)
class _Fed:
    """What is noted of frames as they are fed to the encoder."""

    fingerprinter: Fingerprinter = field(default_factory=Fingerprinter)
    fingerprints: list[bytes] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)


class SegmentWriter:
    """Takes a segment's frames and packets, in their own orders, and ends with its file and record.

    Packets go to disk as they come, so memory does not grow with the segment.

    Args:
        segment: What is being made.
        encoding: The encoding asked for.
        clock: The film's time base.
        folder: Where the file is made.
    """

    def __init__(self, segment: Segment, *, encoding: EncodingPlan, clock: TimeBase, folder: Path) -> None:
        self.segment = segment
        self._encoding, self._clock = encoding, clock
        self._payload_path = folder / f"{segment.address}.packets"
        self._path = folder / f"{segment.address}.mp4"
        self._fed = _Fed()
        self._wanted = set(choose_samples([frame - segment.start_frame for frame in segment.keyframes]))
        self._packets: list[tuple[int, int, bytes, bool]] = []
        self._digest = blake3()
        self._started_at = time.time()
        try:
            self._payload = self._payload_path.open("wb")
        except OSError as error:
            raise storage_error(error, doing=f"create {self._payload_path}") from error

    def add_frame(self, planes: Sequence[np.ndarray]) -> None:
        """Note the next frame as it is fed to the encoder."""
        frame = len(self._fed.fingerprints)
        self._fed.fingerprints.append(self._fed.fingerprinter.add(planes))
        if frame in self._wanted:
            self._fed.samples.append(Sample(frame, pack([make_thumbnail(planes[0])])))

    def add_packet(self, packet: EncodedPacket, *, frame: int) -> bool:
        """Append the next packet; return whether the segment is complete.

        Args:
            packet: In decode order.
            frame: The frame that it shows, from the segment's start.

        Raises:
            EncodeFaultError: The encoder broke the segment's bounds.
            StorageError: The packet cannot be written.
        """
        if not 0 <= frame < self.segment.frame_count or (not self._packets and (frame or not packet.keyframe)):
            raise EncodeFaultError(
                f"segment {self.segment.index}: packet {len(self._packets)} shows frame {frame} of "
                f"{self.segment.frame_count}{'' if packet.keyframe else ', no keyframe'}; segments must be closed"
            )
        self._packets.append((frame, len(packet.payload), packet_digest(packet.payload), packet.keyframe))
        self._digest.update(packet.payload)
        try:
            self._payload.write(packet.payload)
        except OSError as error:
            raise storage_error(error, doing=f"write {self._payload_path}") from error
        return len(self._packets) == self.segment.frame_count

    def finish(self, *, encoder: str, parameter_sets: tuple[bytes, ...], session: int) -> tuple[SegmentRecord, Path]:
        """Write the segment's file and return its record and path.

        Args:
            encoder: Which encoder made it.
            parameter_sets: Those of its packets.
            session: The process that made it.

        Raises:
            EncodeFaultError: A frame has no packet, a planned keyframe is not one, or a frame comes later than planned.
            StorageError: The file cannot be written.
        """
        try:
            self._payload.close()
        except OSError as error:
            raise storage_error(error, doing=f"write {self._payload_path}") from error
        record = self._record(encoder, parameter_sets, session)
        track = video_track([record], encoding=self._encoding, clock=self._clock)
        chunk = Chunk(
            track=0,
            sample_count=record.frame_count,
            path=self._payload_path,
            offset=0,
            length_bytes=record.payload_bytes,
        )
        size_bytes = write_mp4(self._path, tracks=[track], chunks=[chunk])
        self._payload_path.unlink()
        return replace(record, payload_offset=size_bytes - record.payload_bytes), self._path

    def _record(self, encoder: str, parameter_sets: tuple[bytes, ...], session: int) -> SegmentRecord:
        frames, sizes, digests, keyframes = zip(*self._packets, strict=True)
        if len(set(frames)) != self.segment.frame_count:
            raise EncodeFaultError(f"segment {self.segment.index}: {len(set(frames))} frames came out of the encoder")
        made = tuple(sorted(frame for frame, key in zip(frames, keyframes, strict=True) if key))
        planned = tuple(frame - self.segment.start_frame for frame in self.segment.keyframes)
        if not set(planned) <= set(made):
            raise EncodeFaultError(f"segment {self.segment.index}: keyframes {planned} planned, {made} made")
        late = max(index - frame for index, frame in enumerate(frames))
        if late > self._encoding.reorder_frames:
            raise EncodeFaultError(
                f"segment {self.segment.index}: a frame comes {late} packets late, the film allows for "
                f"{self._encoding.reorder_frames}"
            )
        return SegmentRecord(
            address=self.segment.address,
            frames_digest=self.segment.frames_digest,
            frame_count=self.segment.frame_count,
            encoder=encoder,
            parameter_sets=tuple(unit.hex() for unit in parameter_sets),
            reorder_frames=self._encoding.reorder_frames,
            payload_offset=0,
            payload_bytes=sum(sizes),
            payload_digest=self._digest.hexdigest(),
            packet_sizes=sizes,
            packet_frames=frames,
            packet_digests=pack(digests),
            keyframes=made,
            samples=tuple(self._fed.samples),
            fingerprints=pack(self._fed.fingerprints),
            codec=self._encoding.codec,
            event=SegmentEvent(session=session, started_at=self._started_at, ended_at=time.time()),
        )
