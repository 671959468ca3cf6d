"""What a machine fetched from a store far away, kept for the time that one film takes."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from fanreel.errors import storage_error

__all__ = ["Fetched"]

IDLE_SECONDS = 2 * 3600.0
"""What was not asked for so long is removed: a worker may render a terabyte a week and never need it again."""

BUSY_SECONDS = 600.0
"""What was asked for since is not removed even where the disk is full: a join may be about to read it."""

SWEEP_SECONDS = 300.0


class Fetched:
    """Files of this machine that hold what a store has; any of them may go, to be fetched again.

    Args:
        folder: Where they lie; made when it is first needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._swept_at = 0.0

    def path(self, name: str) -> Path:
        """Return where the file of this name, which begins with a digest, lies if it is there."""
        return self._folder / name[:2] / name

    def has(self, path: Path, *, size_bytes: int | None = None) -> bool:
        """Return whether a file is there, and of this length if given; then it stays for a while."""
        with contextlib.suppress(OSError):
            if size_bytes in (None, path.stat().st_size):
                os.utime(path)
                return True
        return False

    def keep(self, part: Path, path: Path) -> None:
        """Move the file `part`, which is whole, to its path.

        Raises:
            StorageError: It cannot be moved.
        """
        if time.monotonic() - self._swept_at > SWEEP_SECONDS:
            self._swept_at = time.monotonic()
            self.sweep()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.utime(part)
            part.replace(path)
        except OSError as error:
            raise storage_error(error, doing=f"write {path}") from error

    def sweep(self, *, all_idle: bool = False) -> int:
        """Remove what was not asked for in hours, or in minutes if the disk is full; return how many files."""
        before = time.time() - (BUSY_SECONDS if all_idle else IDLE_SECONDS)
        count = 0
        for path in self._folder.glob("*/*"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < before:
                    path.unlink()
                    count += 1
        return count
