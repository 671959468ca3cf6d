"""Verify a film's samples: every packet's bytes and times, and the pictures that keyframes, or all frames, show."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, islice
from typing import cast

import av
import av.error
import av.logging
import numpy as np
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from blake3 import blake3

from fanreel.encode.libav import BT709, LIMITED_RANGE, plane_views
from fanreel.join.certificate import AudioCertificate, Certificate
from fanreel.join.damage import Damage, Finding
from fanreel.mp4.bitstream import FORMS
from fanreel.segments.fingerprints import (
    THUMBNAIL_BYTES,
    Fingerprinter,
    fingerprint_difference,
    frozen_frames,
    thumbnail_difference,
)
from fanreel.segments.record import packet_digest, unpack
from fanreel.segments.tracks import presentation_frames

__all__ = ["check_frames", "check_packets"]


@dataclass(frozen=True, slots=True)
class _Expected:
    """What each packet must be: digest, PTS and DTS in ticks, keyframe, and thumbnail if it is a sample."""

    digests: Sequence[bytes]
    pts: Sequence[int]
    dts: Sequence[int]
    keyframes: frozenset[int]
    thumbnails: Mapping[int, bytes]
    index_of: Mapping[bytes, int]
    segment_ends: Sequence[int]

    def where(self, index: int) -> str:
        """Return how a packet is named in findings."""
        return f"packet {index} (segment {bisect_right(self.segment_ends, index)})"


def check_packets(container: InputContainer, certificate: Certificate, *, start_ticks: int) -> Iterator[Finding]:
    """Yield how the packets, read once, differ from the certificate; sampled keyframes are decoded on the way.

    Args:
        container: The film, opened without its edit list.
        certificate: What it must be.
        start_ticks: When the edit list says that the first frame is shown.
    """
    expected = _expect(certificate, start_ticks)
    sampler = _Sampler(container, certificate, expected)
    audio = _AudioCheck(certificate.audio, 1 / certificate.frame_rate)
    count = 0
    for packet in container.demux():
        if packet.stream.type == "audio" and packet.size:
            yield from audio.add(packet)
        if packet.stream.type != "video" or not packet.size:
            continue
        if count < len(expected.digests):
            yield from _check_packet(packet, count, expected)
            if count in expected.thumbnails:
                yield from sampler.check(packet, count)
        count += 1
    if count != len(expected.digests):
        yield Finding(Damage.PACKET_COUNT, f"{count} packets instead of {len(expected.digests)}")
    yield from audio.finish()


def check_frames(container: InputContainer, certificate: Certificate) -> Iterator[Finding]:
    """Yield how the decoded frames, all of them, differ from what was fed to the encoder."""
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    frames = container.decode(stream)
    start = 0
    for index, record in enumerate(certificate.segments):
        fingerprinter = Fingerprinter()
        seen: list[bytes] = []
        for frame in islice(frames, record.frame_count):
            where = f"frame {start + len(seen)} (segment {index})"
            if frame.is_corrupt:
                yield Finding(Damage.PICTURE, f"{where} decodes with errors")
            wrong = _wrong_shape(frame, certificate)
            if wrong:
                yield Finding(wrong.damage, f"{where}: {wrong.message}")
            seen.append(fingerprinter.add(plane_views(frame)) if _is_planar(frame) else b"")
        yield from _compare_frames(record.fingerprint_list, seen, start, index, certificate.quality)
        start += len(seen)
    if start != certificate.frame_count:
        yield Finding(Damage.PICTURE, f"{start} frames decode instead of {certificate.frame_count}")


def _expect(certificate: Certificate, start_ticks: int) -> _Expected:
    shown = presentation_frames(certificate.segments)
    numbers = np.arange(len(shown))
    delay_ticks = int((numbers - shown).max(initial=0)) * certificate.frame_ticks
    digests: list[bytes] = []
    keyframes: set[int] = set()
    thumbnails: dict[int, bytes] = {}
    for record in certificate.segments:
        start = len(digests)
        digests += record.packet_digest_list
        indices = {frame: start + index for index, frame in enumerate(record.packet_frames)}
        keyframes |= {indices[frame] for frame in record.keyframes}
        thumbnails |= {indices[sample.frame]: unpack(sample.thumbnail, THUMBNAIL_BYTES)[0] for sample in record.samples}
    return _Expected(
        digests=digests,
        pts=(shown * certificate.frame_ticks + start_ticks).tolist(),
        dts=(numbers * certificate.frame_ticks + min(start_ticks - delay_ticks, 0)).tolist(),
        keyframes=frozenset(keyframes),
        thumbnails=thumbnails,
        index_of={digest: index for index, digest in enumerate(digests)},
        segment_ends=list(accumulate(record.frame_count for record in certificate.segments)),
    )


def _check_packet(packet: av.Packet, index: int, expected: _Expected) -> Iterator[Finding]:
    digest = packet_digest(bytes(packet))
    if packet.is_corrupt:
        yield Finding(Damage.PAYLOAD, f"{expected.where(index)} is cut short")
    if digest != expected.digests[index]:
        whose = expected.index_of.get(digest)
        belongs = "its bytes belong nowhere in this film" if whose is None else f"it is {expected.where(whose)}"
        yield Finding(Damage.PAYLOAD, f"{expected.where(index)} is not the one that was encoded; {belongs}")
    if (packet.pts, packet.dts) != (expected.pts[index], expected.dts[index]):
        yield Finding(
            Damage.TIMES,
            f"{expected.where(index)} has PTS {packet.pts} and DTS {packet.dts}, "
            f"not {expected.pts[index]} and {expected.dts[index]}",
        )
    if packet.is_keyframe != (index in expected.keyframes):
        marked = "is marked as a keyframe and is none" if packet.is_keyframe else "is a keyframe and not marked as one"
        yield Finding(Damage.KEYFRAMES, f"{expected.where(index)} {marked}")


class _Sampler:
    """Decodes sampled keyframes, each alone, and compares them with what was fed."""

    def __init__(self, container: InputContainer, certificate: Certificate, expected: _Expected) -> None:
        self._certificate, self._expected = certificate, expected
        self._extradata = container.streams.video[0].codec_context.extradata

    def check(self, packet: av.Packet, index: int) -> Iterator[Finding]:
        fed = self._expected.thumbnails[index]
        where = f"the keyframe in {self._expected.where(index)}"
        frames = self._decode(packet)
        if not frames:
            yield Finding(Damage.PICTURE, f"{where} does not decode")
            return
        wrong = _wrong_shape(frames[0], self._certificate)
        if wrong:
            yield Finding(wrong.damage, f"{where}: {wrong.message}")
        difference = thumbnail_difference(fed, plane_views(frames[0])[0], quality=self._certificate.quality)
        if difference is not None:
            yield Finding(Damage.PICTURE, f"{where} is {difference:.0f} levels from what was fed")

    def _decode(self, packet: av.Packet) -> list[av.VideoFrame]:
        name = FORMS[self._certificate.codec].decoder
        decoder = cast("VideoCodecContext", av.CodecContext.create(name, "r"))
        decoder.extradata = self._extradata
        try:
            with av.logging.Capture():
                return [*decoder.decode(packet), *decoder.decode(None)]
        except av.error.FFmpegError:
            return []


class _AudioCheck:
    """Compares the audio packets, as they come, with what was joined in."""

    def __init__(self, wanted: AudioCertificate | None, frame_seconds: Fraction) -> None:
        self._wanted, self._frame_seconds = wanted, frame_seconds
        self._digest = blake3()
        self._count = 0
        self._seconds = Fraction(0)

    def add(self, packet: av.Packet) -> Iterator[Finding]:
        self._digest.update(bytes(packet))
        self._seconds += (packet.duration or 0) * (packet.time_base or Fraction(0))
        index, self._count = self._count, self._count + 1
        # libavformat starts at 0 where it ignores the edit list.
        if self._wanted is not None and packet.pts != index * self._wanted.packet_samples:
            right = index * self._wanted.packet_samples
            yield Finding(Damage.AUDIO, f"audio packet {index} has PTS {packet.pts}, not {right}")

    def finish(self) -> Iterator[Finding]:
        wanted = self._wanted
        if wanted is None:
            if self._count:
                yield Finding(Damage.AUDIO, f"{self._count} audio packets in a film without audio")
            return
        if self._count != wanted.packet_count:
            yield Finding(Damage.AUDIO, f"{self._count} audio packets instead of {wanted.packet_count}")
        elif self._digest.hexdigest() != wanted.payload_digest:
            yield Finding(Damage.AUDIO, "the audio packets are not those that were joined in")
        heard = self._seconds - Fraction(wanted.priming_samples, wanted.sample_rate)
        if heard < wanted.seconds - self._frame_seconds:
            yield Finding(Damage.AUDIO, f"{float(heard):.3f} s of audio instead of {float(wanted.seconds):.3f} s")


def _is_planar(frame: av.VideoFrame) -> bool:
    return frame.format.name == "yuv420p"


def _wrong_shape(frame: av.VideoFrame, certificate: Certificate) -> Finding | None:
    """Return how a decoded frame's format or colour differs from the certificate's, or None."""
    if not _is_planar(frame) or (frame.width, frame.height) != (certificate.width_px, certificate.height_px):
        return Finding(
            Damage.FORMAT,
            f"{frame.format.name} {frame.width}x{frame.height} instead of "
            f"yuv420p {certificate.width_px}x{certificate.height_px}",
        )
    tags = (frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range)
    if tags != (BT709, BT709, BT709, LIMITED_RANGE):
        return Finding(Damage.COLOUR, f"the tags in its parameter set are {tags} instead of BT.709, limited range")
    return None


def _compare_frames(
    fed: Sequence[bytes], seen: Sequence[bytes], start: int, index: int, quality: int
) -> Iterator[Finding]:
    if not all(seen):
        return
    for frame, (before, after) in enumerate(zip(fed, seen, strict=False)):
        difference = fingerprint_difference(before, after, quality=quality)
        if difference is not None:
            yield Finding(
                Damage.PICTURE,
                f"frame {start + frame} (segment {index}) is {difference:.0f} levels from what was fed",
            )
    still = frozen_frames(fed[: len(seen)], seen, quality=quality)
    if still is not None:
        yield Finding(
            Damage.FROZEN, f"segment {index} stands still from frame {start + still} on, though it was moving"
        )
