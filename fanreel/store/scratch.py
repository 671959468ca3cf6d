"""Scratch folders: for half-made files, gone when their owner ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["LOCK_NAME", "locked", "scratch_folder"]

LOCK_NAME = ".lock"
"""A file, not the folder itself: network file systems lock only what is open for writing."""


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock that all writers share; the file stays."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def scratch_folder(parent: Path) -> contextlib.AbstractContextManager[Path]:
    """Return a new folder below `parent` for as long as a context lasts; those that dead processes left are removed.

    Raises:
        OSError: It cannot be made; raised at once, not by the context.
    """
    folder, lock = _locked_folder(parent)
    return _removed_afterwards(folder, lock)


@contextlib.contextmanager
def _removed_afterwards(folder: Path, lock: int) -> Iterator[Path]:
    try:
        yield folder
    finally:
        # In this order: removing takes a descriptor, and others may now remove it at most.
        os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)


def _locked_folder(parent: Path) -> tuple[Path, int]:
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
