"""Whether a file is the film that a certificate is of, from the file's first bytes alone."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from blake3 import blake3
from pydantic import TypeAdapter, ValidationError

from fanreel.errors import MediaError, storage_error
from fanreel.mp4.layout import read_layout

__all__ = ["FilmIdentity", "identify_film", "read_identity"]

STEP_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FilmIdentity:
    """What a certificate of any release says of its film.

    Attributes:
        plan: Digest of its plan.
        header_digest: BLAKE3 of everything before the samples in the file.
        frame_count: Frames.
        frame_rate: Frames a second.
    """

    plan: str
    header_digest: str
    frame_count: int
    frame_rate: Fraction

    @property
    def seconds(self) -> float:
        """Length, rounded to a float; for people."""
        return float(self.frame_count / self.frame_rate) if self.frame_rate else 0.0


_IDENTITY = TypeAdapter(FilmIdentity)


def read_identity(certificate: bytes) -> FilmIdentity | None:
    """Return what the text of a certificate says of its film, or None if it is no certificate."""
    try:
        return _IDENTITY.validate_json(certificate)
    except ValidationError:
        return None


def identify_film(film: Path, certificate: Path) -> FilmIdentity | None:
    """Return what a certificate says of the file at `film`, or None if it is not of that file.

    The header of a film holds the size and the place of every packet, so no other tool writes the same one. A film
    whose packets are damaged, or that was cut short behind its header, is still the film of its certificate.

    Raises:
        StorageError: A file is there and cannot be read.
    """
    try:
        identity = read_identity(certificate.read_bytes())
        return identity if identity and _header_digest(film) == identity.header_digest else None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error(error, doing=f"read {error.filename}") from None


def _header_digest(film: Path) -> str:
    """Return the BLAKE3 of everything before the samples; an empty string if it is no file of this form."""
    try:
        spans = read_layout(film).spans
    except MediaError:
        return ""
    if [span.kind for span in spans][:3] != ["ftyp", "moov", "mdat"]:
        return ""
    digest, left = blake3(), spans[2].content_byte
    with film.open("rb") as file:
        while left and (piece := file.read(min(left, STEP_BYTES))):
            digest.update(piece)
            left -= len(piece)
    return digest.hexdigest()
