"""Verify: a film against its certificate, from disk, without decoding more than a few keyframes.

The film is read once, by libavformat, which did not write it. Every packet's bytes and times are compared,
and the sampled keyframes are decoded on the way. `full` decodes every frame as well. Everything before the
packets is compared as a whole at the end, so that no bit of a film can change unseen.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

from av.container import InputContainer
from blake3 import blake3

from fanreel.encode.libav import BT709, LIMITED_RANGE
from fanreel.errors import FilmDamagedError, MediaError, storage_error
from fanreel.join.certificate import AudioCertificate, Certificate
from fanreel.join.damage import Damage, Finding, gather_findings
from fanreel.join.verify_samples import check_frames, check_packets
from fanreel.mp4.bitstream import FORMS
from fanreel.mp4.containers import open_mp4
from fanreel.mp4.layout import Mp4Layout, read_layout
from fanreel.segments.tracks import film_parameter_sets

__all__ = ["find_damage", "require_sound"]


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
    findings = gather_findings(_check_layout(layout, certificate))
    start_ticks = layout.video_tracks[0].start_ticks if layout.video_tracks else 0
    findings += gather_findings(_check_content(film, certificate, start_ticks))
    if full:
        findings += gather_findings(_check_pictures(film, certificate))
    return tuple(findings or _check_header(film, layout, certificate))


@contextmanager
def _opened(film: Path, *, edited: bool = False) -> Iterator[InputContainer]:
    # Raw times, because the edit list is checked by itself. Keyframes as the tables mark them, since players seek by
    # these, not as a parser finds them.
    with open_mp4(film, options={"ignore_editlist": "0" if edited else "1", "fflags": "noparse"}) as container:
        yield container


def _check_layout(layout: Mp4Layout, certificate: Certificate) -> Iterator[Finding]:
    if layout.truncated:
        yield Finding(Damage.CONTAINER, "the file ends before its last box does")
    if not layout.moov_first:
        yield Finding(Damage.CONTAINER, "moov comes after the samples: players would have to read to the end first")
    kinds = [span.kind for span in layout.spans]
    if sorted(kinds) != ["ftyp", "mdat", "moov"]:
        yield Finding(Damage.CONTAINER, f"the boxes are {', '.join(kinds)} instead of ftyp, moov, mdat")
    if len(layout.video_tracks) != 1:
        yield Finding(Damage.CONTAINER, f"{len(layout.video_tracks)} video tracks instead of one")
        return
    video = layout.video_tracks[0]
    form = FORMS[certificate.codec]
    if video.sample_entry != form.sample_entry:
        yield Finding(Damage.FORMAT, f"sample entry {video.sample_entry!r} instead of {form.sample_entry!r}")
    if video.colour != (BT709, BT709, BT709, False):
        yield Finding(Damage.COLOUR, f"colr says {video.colour} instead of BT.709, limited range")
    wanted = len(_parameter_sets(certificate))
    if len(video.parameter_sets) != wanted:
        yield Finding(
            Damage.PARAMETER_SETS, f"{form.record} has {len(video.parameter_sets)} parameter sets instead of {wanted}"
        )
    # Films of version 0.1 before composition offsets were signed: DTS begins at zero, and the edit list at the delay.
    delay = certificate.reorder_frames * certificate.frame_ticks
    if video.timescale != certificate.timescale or video.start_ticks not in (0, delay):
        yield Finding(
            Damage.TIMES,
            f"{video.timescale} ticks a second, shown from tick {video.start_ticks} on, "
            f"instead of {certificate.timescale} and 0",
        )
    seconds = Fraction(certificate.frame_count) / certificate.frame_rate
    if video.presented_seconds != seconds:
        yield Finding(Damage.DURATION, f"shown for {video.presented_seconds} s instead of {seconds} s")


def _check_content(film: Path, certificate: Certificate, start_ticks: int) -> Iterator[Finding]:
    with _opened(film) as container:
        if container.streams.video[0].codec_context is None:  # which PyAV's types do not say
            yield Finding(Damage.FORMAT, "the sample entry names no codec that FFmpeg knows")
            return
        yield from _check_format(container, certificate)
        yield from check_packets(container, certificate, start_ticks=start_ticks)
    if certificate.audio is not None:
        with _opened(film, edited=True) as container:
            yield from _check_audio_start(container, certificate.audio)


def _check_pictures(film: Path, certificate: Certificate) -> Iterator[Finding]:
    with _opened(film) as container:
        yield from check_frames(container, certificate)


def _check_format(container: InputContainer, certificate: Certificate) -> Iterator[Finding]:
    context = container.streams.video[0].codec_context
    size = (context.width, context.height)
    codec = context.codec.canonical_name
    if codec != certificate.codec or size != (certificate.width_px, certificate.height_px):
        yield Finding(
            Damage.FORMAT,
            f"{codec} {size[0]}x{size[1]} instead of "
            f"{certificate.codec} {certificate.width_px}x{certificate.height_px}",
        )
    tags = (context.color_primaries, context.color_trc, context.colorspace, context.color_range)
    if tags != (BT709, BT709, BT709, LIMITED_RANGE):
        yield Finding(Damage.COLOUR, f"the stream's tags are {tags} instead of BT.709, limited range")
    told = bytes(context.extradata or b"")
    missing = [unit.hex()[:16] for unit in _parameter_sets(certificate) if unit not in told]
    if missing:
        yield Finding(Damage.PARAMETER_SETS, f"{FORMS[certificate.codec].record} lacks {', '.join(missing)}...")


def _parameter_sets(certificate: Certificate) -> list[bytes]:
    """Return the film's distinct parameter sets, of all kinds."""
    return list(dict.fromkeys(unit for units in film_parameter_sets(certificate.segments) for unit in units))


def _check_audio_start(container: InputContainer, wanted: AudioCertificate) -> Iterator[Finding]:
    if not container.streams.audio:
        return  # check_packets finds that there are none
    stream = container.streams.audio[0]
    first = next((packet.pts for packet in container.demux(stream) if packet.size), None)
    if (first, stream.time_base) != (-wanted.priming_samples, Fraction(1, wanted.sample_rate)):
        yield Finding(
            Damage.AUDIO,
            f"the audio begins at {first} x {stream.time_base} s instead of "
            f"-{wanted.priming_samples} x 1/{wanted.sample_rate} s",
        )


def _check_header(film: Path, layout: Mp4Layout, certificate: Certificate) -> Iterator[Finding]:
    """Yield a finding if anything before the samples has changed; asked when no other check found what."""
    end = next(span.content_byte for span in layout.spans if span.kind == "mdat")
    try:
        with film.open("rb") as file:
            header = file.read(end)
    except OSError as error:
        raise storage_error(error, doing=f"read {film}") from error
    if blake3(header).hexdigest() != certificate.header_digest:
        yield Finding(Damage.CONTAINER, f"the {end} bytes before the samples are not those that were written")
