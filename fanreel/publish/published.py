"""Verify a published film against the certificate beside it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from fanreel.errors import FilmDamagedError, MediaError, StorageError, storage_error
from fanreel.join.certificate import Certificate, certificate_path, read_certificate
from fanreel.join.verify import require_sound
from fanreel.remote.locations import scheme_of
from fanreel.settings import Settings
from fanreel.store.workspace import Workspace

__all__ = ["next_certificate_path", "verify_film", "verify_published"]


def verify_film(film: Path, *, full: bool = False) -> Certificate:
    """Verify a film, and return its certificate.

    Args:
        film: The film; its certificate lies beside it.
        full: Decode every frame as well.

    Raises:
        FilmDamagedError: The film differs from its certificate; the message lists how.
        StorageError: The film cannot be read, or has no certificate.
    """
    try:
        film.stat()
    except OSError as error:
        raise storage_error(error, doing=f"read {film}") from None
    path, waiting = certificate_path(film), next_certificate_path(film)
    if not path.exists() and not waiting.exists():
        raise StorageError(f"{film}: no certificate beside it ({path.name}); only films that have one can be verified")
    try:
        return _verify(film, path, full=full)
    except (FilmDamagedError, StorageError):
        # A run that was killed while it published may have left the certificate under the name where it waits.
        if not waiting.exists():
            raise
        with contextlib.suppress(FilmDamagedError, MediaError):
            return _verify(film, waiting, full=full)
        raise


def verify_published(film: str, *, settings: Settings, full: bool = False) -> Certificate:
    """Verify a film in a folder or in S3, and return its certificate; see `verify_film`.

    Args:
        film: A path, or a URI in S3; from there it is downloaded first.
        settings: Gives the workspace that it is downloaded to.
        full: Decode every frame as well.
    """
    if not scheme_of(film):
        return verify_film(Path(film), full=full)
    from fanreel.publish.s3_destination import S3Folder  # boto3 takes half a second

    with Workspace(settings.store).scratch() as folder:
        path = S3Folder(film, settings).fetch(folder)
        try:
            return verify_film(path, full=full)
        except (FilmDamagedError, StorageError) as error:
            raise type(error)(str(error).replace(str(path), film)) from None


def next_certificate_path(film: Path) -> Path:
    """Return where the certificate of the next film of this name waits until that film is there."""
    path = certificate_path(film)
    return path.with_name(f".{path.name}.next")


def _verify(film: Path, path: Path, *, full: bool) -> Certificate:
    certificate = read_certificate(path)
    require_sound(film, certificate, full=full)
    return certificate
