"""Destinations: where finished films go."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from pathlib import Path
from typing import Protocol

from fanreel.errors import StorageError, storage_error
from fanreel.media.certificate import certificate_path

__all__ = ["Destination", "LocalFolder"]


class Destination(Protocol):
    """A place that takes films. Under its final name a film is whole, or the one that was there before."""

    def check(self) -> None:
        """Return if the film could be published, as far as can be told without writing it.

        Raises:
            StorageError: It could not.
        """
        ...

    def publish(self, draft: Path) -> str:
        """Publish the film at `draft` and the certificate beside it, which are moved; return where it is now.

        Raises:
            StorageError: It cannot be published; what was there before still is.
        """
        ...


class LocalFolder:
    """A folder of this machine.

    Args:
        film: The film's final path.
    """

    def __init__(self, film: Path) -> None:
        self._film = film

    def check(self) -> None:
        """Return if the folder exists, or can be made, and can be written."""
        folder = self._film.parent
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise StorageError(
                f"output: {self._film.parent} cannot be written; choose another folder or change its rights"
            )
        if self._film.is_dir():
            raise StorageError(f"output: {self._film} is a folder")

    def publish(self, draft: Path) -> str:
        """Move the certificate, then the film, under their final names."""
        try:
            self._film.parent.mkdir(parents=True, exist_ok=True)
            for source, target in ((certificate_path(draft), certificate_path(self._film)), (draft, self._film)):
                _move(source, target)
        except OSError as error:
            raise storage_error(error, doing=f"publish {self._film}") from error
        return str(self._film)


def _move(source: Path, target: Path) -> None:
    """Move a file to `target` at once, as the file system sees it, also from another file system."""
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # One temporary name a film, locked: what a killed run left is overwritten, not added to.
        part = target.with_name(f".{target.name}.part")
        with part.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.truncate(0)
            with source.open("rb") as original:
                shutil.copyfileobj(original, file, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
            part.replace(target)
        source.unlink()
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(folder)
    os.close(folder)
