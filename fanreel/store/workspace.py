"""A machine's workspace: half-made files, films that wait to be published, and copies of what it fetched.

All of it may go: what dead processes left is removed by the next one, and what was fetched is fetched again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from fanreel.errors import storage_error
from fanreel.plan.film import FilmPlan, plan_digest
from fanreel.settings import Settings
from fanreel.store import names

__all__ = ["BUSY_SECONDS", "DRAFT_SECONDS", "IDLE_SECONDS", "LOCK_NAME", "Fetched", "Workspace", "locked"]

DRAFT_SECONDS = 7 * 86_400.0
"""How long a draft may wait to be published; one that is older belongs to a run that died."""

IDLE_SECONDS = 2 * 3600.0
"""A fetched file not asked for in this time is removed: a worker may render a terabyte a week and need none again."""

BUSY_SECONDS = 600.0
"""A fetched file asked for since then stays even where the disk is full: a join may be about to read it."""

SWEEP_SECONDS = 300.0

LOCK_NAME = ".lock"
"""A file, not the folder itself: network file systems lock only what is open for writing."""


class Workspace:
    """A folder of this machine; of a store in a folder, the store's own.

    Args:
        root: The folder; made when it is first needed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def of(cls, settings: Settings) -> Workspace:
        """Return the workspace that the operator chose, or a tenant's part of it."""
        return cls(settings.store / names.TENANTS / settings.tenant if settings.tenant else settings.store)

    def draft_path(self, plan: FilmPlan) -> Path:
        """Return a new path where a film may wait to be published; drafts older than a week are removed on the way."""
        folder = self.root / names.DRAFTS
        with contextlib.suppress(OSError):
            for draft in folder.iterdir():
                if draft.stat().st_mtime < time.time() - DRAFT_SECONDS:
                    draft.unlink()
        return folder / f"{plan_digest(plan)}-{secrets.token_hex(8)}.mp4"

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield a new folder, removed afterwards; those that dead processes left are removed on the way.

        Raises:
            StorageError: It cannot be made.
        """
        try:
            folder, lock = _make_locked_folder(self.root / names.SCRATCH)
        except OSError as error:
            raise storage_error(error, doing=f"write the store {self.root} (FANREEL_STORE names another)") from error
        try:
            yield folder
        finally:
            # The lock goes first, because removing takes a descriptor. Another process may then only remove it too.
            os.close(lock)
            shutil.rmtree(folder, ignore_errors=True)


class Fetched:
    """Copies of files of a store far away, or other files that may go.

    Args:
        folder: Where they lie; made when it is first needed.
        idle_seconds: A file not asked for in this time is removed.
    """

    def __init__(self, folder: Path, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self._folder, self._idle_seconds = folder, idle_seconds
        self._swept_at = 0.0

    def path(self, name: str) -> Path:
        """Return the path of the copy of this name, which begins with a digest."""
        return self._folder / name[:2] / name

    def has(self, path: Path, *, size_bytes: int | None = None) -> bool:
        """Return whether a file is there, and of this length if given; then it stays for a while."""
        with contextlib.suppress(OSError):
            if size_bytes in (None, path.stat().st_size):
                os.utime(path)
                return True
        return False

    def keep(self, part: Path, path: Path) -> None:
        """Move the whole file `part` to its path.

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

    def sweep(self, *, disk_is_full: bool = False) -> int:
        """Remove files not asked for in so long, or in minutes if the disk is full; return how many."""
        before = time.time() - (BUSY_SECONDS if disk_is_full else self._idle_seconds)
        count = 0
        for path in self._folder.glob("*/*"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < before:
                    path.unlink()
                    count += 1
        return count


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file that all writers share; the file stays."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _make_locked_folder(parent: Path) -> tuple[Path, int]:
    """Return a new folder and the descriptor that holds its lock, after removing what dead processes left."""
    parent.mkdir(parents=True, exist_ok=True)
    # Held while folders come and go, so that a new one is not taken for abandoned before it is locked.
    with locked(parent / LOCK_NAME):
        for folder in parent.iterdir():
            if folder.name != LOCK_NAME:
                _remove_if_abandoned(folder)
        folder = Path(tempfile.mkdtemp(dir=parent))
        try:
            lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:
            folder.rmdir()
            raise
        fcntl.flock(lock, fcntl.LOCK_EX)
        return folder, lock


def _remove_if_abandoned(folder: Path) -> None:
    """Remove a scratch folder whose owner is dead: the kernel has dropped its lock."""
    with contextlib.suppress(OSError):
        try:
            lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:  # its owner died while it made or removed it
            shutil.rmtree(folder, ignore_errors=True)
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
