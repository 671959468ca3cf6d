"""The certificate: what a film must be, kept as JSON beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from blake3 import blake3
from pydantic import TypeAdapter, ValidationError

from fanreel.errors import MediaError, storage_error
from fanreel.media.audio import AudioTrack
from fanreel.media.record import SegmentRecord
from fanreel.plan.film import FilmPlan, plan_digest

__all__ = ["AudioCertificate", "Certificate", "certificate_path", "certify", "read_certificate", "write_certificate"]

VERSION = 1


@dataclass(frozen=True, slots=True)
class AudioCertificate:
    """What the audio track must be.

    Attributes:
        packet_count: AAC packets.
        payload_digest: BLAKE3 of all of them, in order.
        seconds: What is heard, exact.
    """

    packet_count: int
    payload_digest: str
    seconds: Fraction


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a film must be, down to each packet.

    Attributes:
        version: Of this form.
        film: The film's file name, for people.
        plan: Digest of its plan.
        width_px: Width.
        height_px: Height.
        frame_rate: Frames a second.
        timescale: Ticks a second.
        frame_ticks: Ticks a frame.
        reorder_frames: Reorder delay, the same from the first packet to the last.
        frame_count: Frames.
        segments: The record of each segment, in order.
        audio: The audio track, if there is one.
    """

    version: int
    film: str
    plan: str
    width_px: int
    height_px: int
    frame_rate: Fraction
    timescale: int
    frame_ticks: int
    reorder_frames: int
    frame_count: int
    segments: tuple[SegmentRecord, ...]
    audio: AudioCertificate | None = None


_CERTIFICATE = TypeAdapter(Certificate)


def certify(plan: FilmPlan, records: Sequence[SegmentRecord], *, audio: AudioTrack | None = None) -> Certificate:
    """Return what the film of `plan`, made of `records`, must be."""
    return Certificate(
        version=VERSION,
        film=plan.name,
        plan=plan_digest(plan),
        width_px=plan.encoding.width_px,
        height_px=plan.encoding.height_px,
        frame_rate=plan.encoding.frame_rate,
        timescale=plan.clock.timescale,
        frame_ticks=plan.clock.frame_ticks,
        reorder_frames=plan.encoding.reorder_frames,
        frame_count=plan.frame_count,
        segments=tuple(records),
        audio=_certify_audio(audio, Fraction(plan.frame_count) / plan.encoding.frame_rate) if audio else None,
    )


def certificate_path(film: Path) -> Path:
    """Return where the certificate of a film lies: beside it."""
    return film.with_name(film.name + ".certificate.json")


def read_certificate(path: Path) -> Certificate:
    """Return the certificate at `path`.

    Raises:
        MediaError: It is none.
        StorageError: It cannot be read.
    """
    try:
        return _CERTIFICATE.validate_json(path.read_bytes())
    except OSError as error:
        raise storage_error(error, doing=f"read the certificate {path}") from None
    except ValidationError as error:
        raise MediaError(f"{path}: not a certificate: {error.errors()[0]['msg']}") from None


def write_certificate(certificate: Certificate, path: Path) -> None:
    """Write the certificate to `path`.

    Raises:
        StorageError: It cannot be written.
    """
    try:
        path.write_bytes(_CERTIFICATE.dump_json(certificate))
    except OSError as error:
        raise storage_error(error, doing=f"write the certificate {path}") from None


def _certify_audio(audio: AudioTrack, film_seconds: Fraction) -> AudioCertificate:
    digest = blake3()
    with audio.path.open("rb") as file:
        for offset, size in zip(audio.offsets.tolist(), audio.sizes.tolist(), strict=True):
            file.seek(offset)
            digest.update(file.read(size))
    return AudioCertificate(len(audio.sizes), digest.hexdigest(), min(audio.seconds, film_seconds))
