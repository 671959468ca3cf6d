"""The certificate: what a film must be, kept as JSON beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from blake3 import blake3
from pydantic import TypeAdapter, ValidationError

from fanreel.audio.track import AudioTrack
from fanreel.codecs import Codec
from fanreel.errors import MediaError, SegmentDamagedError, storage_error
from fanreel.join.concat import film_chunks, film_tracks
from fanreel.mp4.writer import mp4_header
from fanreel.plan.film import FilmPlan, plan_digest
from fanreel.segments.record import SegmentRecord, check_record

__all__ = ["AudioCertificate", "Certificate", "certificate_path", "certify", "read_certificate", "write_certificate"]

VERSION = 1


@dataclass(frozen=True, slots=True)
class AudioCertificate:
    """What the audio track must be.

    Attributes:
        packet_count: AAC packets.
        payload_digest: BLAKE3 of all of them, in order.
        seconds: What is heard, exact.
        sample_rate: Samples a second, which are also the ticks of its times.
        packet_samples: Samples of each packet, also of the last one.
        priming_samples: Samples at the start that are not heard.
    """

    packet_count: int
    payload_digest: str
    seconds: Fraction
    sample_rate: int
    packet_samples: int
    priming_samples: int


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a film must be, down to each packet.

    Attributes:
        version: Of this form.
        film: The film's file name, for people.
        plan: Digest of its plan.
        width_px: Width.
        height_px: Height.
        quality: What the encoder was asked for, 0 to 51; decoded frames may differ that much from what was fed.
        frame_rate: Frames a second.
        timescale: Ticks a second.
        frame_ticks: Ticks a frame.
        reorder_frames: Reorder delay, the same from the first packet to the last.
        frame_count: Frames.
        header_digest: BLAKE3 of everything before the samples in the file.
        segments: The record of each segment, in order.
        audio: The audio track, if there is one.
        codec: What all segments are coded in; a certificate without it is of an earlier release: H.264.
    """

    version: int
    film: str
    plan: str
    width_px: int
    height_px: int
    quality: int
    frame_rate: Fraction
    timescale: int
    frame_ticks: int
    reorder_frames: int
    frame_count: int
    header_digest: str
    segments: tuple[SegmentRecord, ...]
    audio: AudioCertificate | None = None
    codec: Codec = Codec.H264


_CERTIFICATE = TypeAdapter(Certificate)


def certify(plan: FilmPlan, records: Sequence[SegmentRecord], *, audio: AudioTrack | None = None) -> Certificate:
    """Return what the film of `plan`, made of `records`, must be.

    Args:
        plan: The film.
        records: All its segments in order.
        audio: The audio that was joined in; None without.

    Raises:
        StorageError: The audio cannot be read.
        VerificationError: The segments do not belong together.
    """
    if audio is not None:
        audio = audio.until(Fraction(plan.frame_count) / plan.encoding.frame_rate)
    chunks = film_chunks(plan, records, [Path()] * len(records), audio=audio)
    header = mp4_header(tracks=film_tracks(plan, records, audio=audio), chunks=chunks)
    return Certificate(
        version=VERSION,
        film=plan.name,
        plan=plan_digest(plan),
        width_px=plan.encoding.width_px,
        height_px=plan.encoding.height_px,
        quality=plan.encoding.quality,
        frame_rate=plan.encoding.frame_rate,
        timescale=plan.clock.timescale,
        frame_ticks=plan.clock.frame_ticks,
        reorder_frames=plan.encoding.reorder_frames,
        frame_count=plan.frame_count,
        header_digest=blake3(header).hexdigest(),
        segments=tuple(records),
        audio=_certify_audio(audio, Fraction(plan.frame_count) / plan.encoding.frame_rate) if audio else None,
        codec=plan.encoding.codec,
    )


def certificate_path(film: Path) -> Path:
    """Return where the certificate of a film lies: beside it."""
    return film.with_name(film.name + ".certificate.json")


def read_certificate(path: Path) -> Certificate:
    """Return the certificate at `path`.

    Raises:
        MediaError: It is no certificate.
        StorageError: It cannot be read.
    """
    try:
        certificate = _CERTIFICATE.validate_json(path.read_bytes())
        wrong = _contradiction(certificate)
    except OSError as error:
        raise storage_error(error, doing=f"read the certificate {path}") from None
    except ValidationError as error:
        detail = error.errors()[0]
        field = ".".join(map(str, detail["loc"])) or "it"
        raise MediaError(f"{path}: not a certificate: {field}: {detail['msg']}") from None
    except SegmentDamagedError as error:
        raise MediaError(f"{path}: not a certificate: {error}") from None
    if wrong:
        raise MediaError(f"{path}: not a certificate: {wrong}")
    return certificate


def write_certificate(certificate: Certificate, path: Path) -> None:
    """Write the certificate to `path`.

    Raises:
        StorageError: It cannot be written.
    """
    try:
        path.write_bytes(_CERTIFICATE.dump_json(certificate))
    except OSError as error:
        raise storage_error(error, doing=f"write the certificate {path}") from None


def _contradiction(certificate: Certificate) -> str:
    """Return how a certificate contradicts itself, or an empty string."""
    if certificate.version != VERSION:
        return f"it has version {certificate.version}, this fanreel reads {VERSION}; verify with the one that made it"
    for record in certificate.segments:
        check_record(record)
        if record.reorder_frames != certificate.reorder_frames:
            return f"segment {record.address[:12]} has a reorder delay of {record.reorder_frames} frames"
        if record.codec is not certificate.codec:
            return f"segment {record.address[:12]} is in {record.codec}, the film in {certificate.codec}"
    frames = sum(record.frame_count for record in certificate.segments)
    if not certificate.segments or frames != certificate.frame_count:
        return f"its segments have {frames} frames, the film {certificate.frame_count}"
    if min(certificate.frame_ticks, certificate.frame_rate) <= 0:
        return f"{certificate.frame_rate} frames a second, {certificate.frame_ticks} ticks each"
    if certificate.timescale != certificate.frame_ticks * certificate.frame_rate:
        return f"{certificate.timescale} ticks a second are not {certificate.frame_rate} frames"
    return ""


def _certify_audio(audio: AudioTrack, film_seconds: Fraction) -> AudioCertificate:
    digest = blake3()
    try:
        with audio.path.open("rb") as file:
            for offset, size in zip(audio.offsets.tolist(), audio.sizes.tolist(), strict=True):
                file.seek(offset)
                digest.update(file.read(size))
    except OSError as error:
        raise storage_error(error, doing=f"read the audio {audio.path}") from error
    return AudioCertificate(
        packet_count=len(audio.sizes),
        payload_digest=digest.hexdigest(),
        seconds=min(audio.seconds, film_seconds),
        sample_rate=audio.sample_rate,
        packet_samples=audio.packet_samples,
        priming_samples=audio.priming_samples,
    )
