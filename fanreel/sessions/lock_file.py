"""Files that all users of a host share: locks, and what their holders tell each other."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

from fanreel.errors import storage_error

__all__ = ["make_shared", "open_shared", "try_lock"]

_OPEN_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


def try_lock(path: Path, *, shared: bool = False) -> int | None:
    """Return the descriptor of a file that is locked until every copy of it is closed; None if it is locked already.

    Args:
        path: The file; it and its folder are made where missing, open to every user.
        shared: Lock it against those only who lock it not shared.

    Raises:
        StorageError: It cannot be used as a lock.
    """
    with ExitStack() as opened:
        try:
            descriptor = _open_lock(path)
            opened.callback(os.close, descriptor)
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            # A file that was deleted meanwhile is locked in vain: the next taker makes another one.
            if os.path.samestat(path.stat(follow_symlinks=False), os.fstat(descriptor)):
                opened.pop_all()
                return descriptor
        except (BlockingIOError, FileNotFoundError):
            pass
        except OSError as error:
            raise storage_error(error, doing=f"use {path} as a lock that all users share") from error
    return None


def _open_lock(path: Path) -> int:
    with suppress(FileNotFoundError):
        return make_shared(path)
    if not path.parent.is_dir():
        _make_folder(path.parent)
    return make_shared(path)


def make_shared(path: Path) -> int:
    """Return as `open_shared` does; a file that is missing is made, open to every user at once."""
    with suppress(FileNotFoundError):
        return open_shared(path)
    descriptor, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    try:
        os.fchmod(descriptor, 0o666)
        with suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.close(descriptor)
        Path(name).unlink()
    return open_shared(path)


def open_shared(path: Path) -> int:
    """Return a descriptor, to read and write, of a file that all users of its folder share.

    Args:
        path: A regular file; a link is refused, whoever planted it.

    Raises:
        OSError: It is missing, no regular file, or not open to this user.
    """
    # Without O_CREAT, which fs.protected_regular refuses on another user's file in a sticky folder.
    descriptor = os.open(path, _OPEN_FLAGS)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file; delete it")
    return descriptor


def _make_folder(folder: Path) -> None:
    """Make the folder, open to every user at once; another process may be the one that makes it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        made.chmod(0o1777)
        made.rename(folder)
    except OSError:
        made.rmdir()
        if not folder.is_dir():
            raise
