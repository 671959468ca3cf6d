"""Verify: a film against its certificate, from disk, without decoding more than a few keyframes.

The film is read once by libavformat, which is not what wrote it. Every packet's bytes and times are
compared; the sampled keyframes are decoded on the way. `full` decodes every frame as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import av.error
import av.logging
import numpy as np
from av.container import InputContainer
from blake3 import blake3

from fanreel.errors import FilmDamagedError, MediaError
from fanreel.media.certificate import Certificate
from fanreel.media.encoder import BT709, LIMITED_RANGE, plane_views
from fanreel.media.mp4_layout import Mp4Layout, read_layout
from fanreel.media.record import SegmentRecord, packet_digest, unpack
from fanreel.media.signature import (
    Fingerprinter,
    fingerprint_difference,
    frozen_frames,
    thumbnail_difference,
)
from fanreel.media.tracks import film_parameter_sets, presentation_frames

__all__ = ["Damage", "Finding", "find_damage", "require_sound"]

MOST_FINDINGS_A_KIND = 3
"""One cause, such as a dropped packet, shows in every packet after it; the first ones tell."""


class Damage(StrEnum):
    """What can be wrong with a film."""

    CONTAINER = "container"
    FORMAT = "format"
    COLOUR = "colour"
    PARAMETER_SETS = "parameter sets"
    DURATION = "duration"
    PACKET_COUNT = "packet count"
    PAYLOAD = "payload"
    TIMES = "times"
    KEYFRAMES = "keyframes"
    PICTURE = "picture"
    FROZEN = "frozen"
    AUDIO = "audio"


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference between a film and its certificate, in words."""

    damage: Damage
    message: str


@dataclass(frozen=True, slots=True)
class _Expected:
    """What each packet must be: digest, PTS and DTS in ticks, keyframe, and thumbnail if it is a sample."""

    digests: list[bytes]
    pts: np.ndarray
    dts: np.ndarray
    keyframes: frozenset[int]
    thumbnails: dict[int, bytes]


def require_sound(film: Path, certificate: Certificate, *, full: bool = False) -> None:
    """Return if the film is what its certificate says.

    Raises:
        FilmDamagedError: It is not; the message lists what differs.
        StorageError: It cannot be read.
    """
    findings = find_damage(film, certificate, full=full)
    if findings:
        lines = "\n".join(f"  {finding.damage}: {finding.message}" for finding in findings)
        raise FilmDamagedError(f"{film} is damaged:\n{lines}")


def find_damage(film: Path, certificate: Certificate, *, full: bool = False) -> tuple[Finding, ...]:
    """Return every way in which the film differs from its certificate, at most three of a kind.

    Args:
        film: The film.
        certificate: What it must be.
        full: Decode every frame and compare it with what was fed to the encoder.

    Raises:
        StorageError: The film cannot be read.
    """
    try:
        layout = read_layout(film)
    except MediaError as error:
        return (Finding(Damage.CONTAINER, str(error)),)
    findings: list[Finding] = []
    try:
        findings += _limited(_check_layout(layout, certificate))
        with _opened(film) as container:
            findings += _limited(_check_format(container, certificate))
            findings += _limited(_check_packets(container, certificate))
        if full:
            with _opened(film) as container:
                findings += _limited(_check_frames(container, certificate))
    except (av.error.FFmpegError, IndexError) as error:
        findings.append(Finding(Damage.CONTAINER, f"libavformat cannot read it: {error}"))
    return tuple(findings)


@contextmanager
def _opened(film: Path) -> Iterator[InputContainer]:
    # Raw times, so that the edit list is judged apart; no file but this one is ever opened.
    options = {"ignore_editlist": "1", "protocol_whitelist": "file"}
    with av.open(str(film.absolute()), format="mp4", options=options) as container:
        yield container


def _limited(findings: Iterator[Finding]) -> list[Finding]:
    kept: dict[Damage, list[Finding]] = {}
    for finding in findings:
        kept.setdefault(finding.damage, []).append(finding)
    shown: list[Finding] = []
    for damage, found in kept.items():
        shown += found[:MOST_FINDINGS_A_KIND]
        if len(found) > MOST_FINDINGS_A_KIND:
            shown.append(Finding(damage, f"and {len(found) - MOST_FINDINGS_A_KIND} more like these"))
    return shown


def _check_layout(layout: Mp4Layout, certificate: Certificate) -> Iterator[Finding]:
    if layout.truncated:
        yield Finding(Damage.CONTAINER, "the file ends before its last box does")
    if not layout.moov_first:
        yield Finding(Damage.CONTAINER, "moov comes after the samples; players would have to read to the end first")
    if len(layout.video_tracks) != 1:
        yield Finding(Damage.CONTAINER, f"{len(layout.video_tracks)} video tracks instead of one")
        return
    video = layout.video_tracks[0]
    if video.sample_entry != "avc1":
        yield Finding(Damage.FORMAT, f"sample entry {video.sample_entry!r} instead of 'avc1'")
    if video.colour != (BT709, BT709, BT709, False):
        yield Finding(Damage.COLOUR, f"colr says {video.colour} instead of BT.709, limited range")
    pairs = film_parameter_sets(certificate.segments)
    wanted = (len({sps for sps, _ in pairs}), len({pps for _, pps in pairs}))
    if (video.sps_count, video.pps_count) != wanted:
        yield Finding(
            Damage.PARAMETER_SETS,
            f"{video.sps_count} SPS and {video.pps_count} PPS instead of {wanted[0]} and {wanted[1]}",
        )
    delay = certificate.reorder_frames * certificate.frame_ticks
    if (video.timescale, video.start_ticks) != (certificate.timescale, delay):
        yield Finding(
            Damage.TIMES,
            f"{video.timescale} ticks a second, shown from tick {video.start_ticks} on, "
            f"instead of {certificate.timescale} and {delay}",
        )
    seconds = Fraction(certificate.frame_count) / certificate.frame_rate
    if video.presented_seconds != seconds:
        yield Finding(Damage.DURATION, f"shown for {video.presented_seconds} s instead of {seconds} s")


def _check_format(container: InputContainer, certificate: Certificate) -> Iterator[Finding]:
    context = container.streams.video[0].codec_context
    size = (context.width, context.height)
    if context.name != "h264" or size != (certificate.width_px, certificate.height_px):
        yield Finding(
            Damage.FORMAT,
            f"{context.name} {size[0]}x{size[1]} instead of h264 {certificate.width_px}x{certificate.height_px}",
        )
    tags = (context.color_primaries, context.color_trc, context.colorspace, context.color_range)
    if tags != (BT709, BT709, BT709, LIMITED_RANGE):
        yield Finding(Damage.COLOUR, f"the stream's tags are {tags} instead of BT.709, limited range")
    missing = [
        unit.hex()[:16]
        for pair in film_parameter_sets(certificate.segments)
        for unit in pair
        if unit not in bytes(context.extradata or b"")
    ]
    if missing:
        yield Finding(Damage.PARAMETER_SETS, f"avcC lacks {', '.join(missing)}...")


def _check_packets(container: InputContainer, certificate: Certificate) -> Iterator[Finding]:
    expected = _expect(certificate)
    places = {digest: place for place, digest in enumerate(expected.digests)}
    sampler = _Sampler(container, expected.thumbnails)
    audio = blake3()
    audio_count = count = 0
    audio_seconds = Fraction(0)
    for packet in container.demux():
        if packet.stream.type == "audio" and packet.size:
            audio.update(bytes(packet))
            audio_count += 1
            audio_seconds += (packet.duration or 0) * (packet.time_base or Fraction(0))
        if packet.stream.type != "video" or not packet.size:
            continue
        if count < len(expected.digests):
            yield from _check_packet(packet, count, expected, places, certificate)
            yield from sampler.check(packet, count)
        count += 1
    if count != len(expected.digests):
        yield Finding(Damage.PACKET_COUNT, f"{count} packets instead of {len(expected.digests)}")
    yield from _check_audio(certificate, audio_count, audio.hexdigest(), audio_seconds)


def _expect(certificate: Certificate) -> _Expected:
    shown = presentation_frames(certificate.segments)
    digests: list[bytes] = []
    keyframes: set[int] = set()
    thumbnails: dict[int, bytes] = {}
    for record in certificate.segments:
        start = len(digests)
        digests += record.packet_digest_list
        places = {frame: start + place for place, frame in enumerate(record.packet_frames)}
        keyframes |= {places[frame] for frame in record.keyframes}
        thumbnails |= {places[sample.frame]: unpack(sample.thumbnail, 32 * 18)[0] for sample in record.samples}
    return _Expected(
        digests=digests,
        pts=(shown + certificate.reorder_frames) * certificate.frame_ticks,
        dts=np.arange(len(shown)) * certificate.frame_ticks,
        keyframes=frozenset(keyframes),
        thumbnails=thumbnails,
    )


def _check_packet(
    packet: av.Packet, place: int, expected: _Expected, places: dict[bytes, int], certificate: Certificate
) -> Iterator[Finding]:
    where = f"packet {place} (segment {_segment_of(place, certificate.segments)})"
    digest = packet_digest(bytes(packet))
    if packet.is_corrupt:
        yield Finding(Damage.PAYLOAD, f"{where} is cut short")
    if digest != expected.digests[place]:
        belongs = f"it belongs at {places[digest]}" if digest in places else "its bytes belong nowhere in this film"
        yield Finding(Damage.PAYLOAD, f"{where} is not the one that was encoded; {belongs}")
    if (packet.pts, packet.dts) != (expected.pts[place], expected.dts[place]):
        yield Finding(
            Damage.TIMES,
            f"{where} has PTS {packet.pts} and DTS {packet.dts}, not {expected.pts[place]} and {expected.dts[place]}",
        )
    if packet.is_keyframe != (place in expected.keyframes):
        yield Finding(Damage.KEYFRAMES, f"{where} is {'a' if packet.is_keyframe else 'no'} keyframe")


def _segment_of(place: int, records: Sequence[SegmentRecord]) -> int:
    ends = np.cumsum([record.frame_count for record in records])
    return int(np.searchsorted(ends, place, side="right"))


class _Sampler:
    """Decodes sampled keyframes, each alone, and compares them with what was fed."""

    def __init__(self, container: InputContainer, thumbnails: dict[int, bytes]) -> None:
        self._thumbnails = thumbnails
        self._stream = container.streams.video[0]

    def check(self, packet: av.Packet, place: int) -> Iterator[Finding]:
        fed = self._thumbnails.get(place)
        if fed is None:
            return
        frames = self._decode(packet)
        if not frames:
            yield Finding(Damage.PICTURE, f"the keyframe in packet {place} does not decode")
            return
        difference = thumbnail_difference(fed, plane_views(frames[0])[0])
        if difference is not None:
            yield Finding(
                Damage.PICTURE, f"the keyframe in packet {place} is {difference:.0f} levels from what was fed"
            )

    def _decode(self, packet: av.Packet) -> list[av.VideoFrame]:
        decoder = av.CodecContext.create("h264", "r")
        decoder.extradata = self._stream.codec_context.extradata
        try:
            with av.logging.Capture():
                return [*decoder.decode(packet), *decoder.decode(None)]
        except av.error.FFmpegError:
            return []


def _check_audio(certificate: Certificate, count: int, digest: str, seconds: Fraction) -> Iterator[Finding]:
    wanted = certificate.audio
    if wanted is None:
        if count:
            yield Finding(Damage.AUDIO, f"{count} audio packets in a film without audio")
        return
    if count != wanted.packet_count:
        yield Finding(Damage.AUDIO, f"{count} audio packets instead of {wanted.packet_count}")
    elif digest != wanted.payload_digest:
        yield Finding(Damage.AUDIO, "the audio packets are not those that were joined in")
    frame = 1 / certificate.frame_rate
    if seconds < wanted.seconds - frame:
        yield Finding(Damage.AUDIO, f"{float(seconds):.3f} s of audio instead of {float(wanted.seconds):.3f} s")


def _check_frames(container: InputContainer, certificate: Certificate) -> Iterator[Finding]:
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    frames = container.decode(stream)
    start = 0
    for index, record in enumerate(certificate.segments):
        fingerprinter = Fingerprinter()
        seen: list[bytes] = []
        for frame in islice(frames, record.frame_count):
            if frame.is_corrupt:
                yield Finding(Damage.PICTURE, f"frame {start + len(seen)} decodes with errors")
            seen.append(fingerprinter.add(plane_views(frame)))
        yield from _compare_frames(record.fingerprint_list, seen, start, index)
        start += len(seen)
    if start != certificate.frame_count:
        yield Finding(Damage.PICTURE, f"{start} frames decode instead of {certificate.frame_count}")


def _compare_frames(fed: Sequence[bytes], seen: Sequence[bytes], start: int, index: int) -> Iterator[Finding]:
    for place, (before, after) in enumerate(zip(fed, seen, strict=False)):
        difference = fingerprint_difference(before, after)
        if difference is not None:
            yield Finding(Damage.PICTURE, f"frame {start + place} is {difference:.0f} levels from what was fed")
    still = frozen_frames(fed[: len(seen)], seen)
    if still is not None:
        yield Finding(Damage.FROZEN, f"segment {index} stands still from frame {start + still} on")
