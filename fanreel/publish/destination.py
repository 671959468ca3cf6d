"""Destinations: where finished films go."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from fanreel.errors import FanreelError, StorageError, storage_error
from fanreel.join.certificate import certificate_path
from fanreel.join.identify import identify_film
from fanreel.publish.previous import PreviousFile, look_again
from fanreel.publish.published import next_certificate_path, verify_film
from fanreel.store.seals import file_digest

__all__ = ["Destination", "LocalFolder"]


class Destination(Protocol):
    """A place that takes films. Under its final name a film is whole, or the one that was there before."""

    def check(self) -> None:
        """Return if the film can be published, as far as that can be known without writing it.

        Raises:
            StorageError: It cannot.
        """
        ...

    def previous(self) -> PreviousFile | None:
        """Return the file that is there now; None if there is none, or an empty one.

        Raises:
            StorageError: It cannot be read.
        """
        ...

    def holds(self, plan: str) -> bool:
        """Return whether a sound film lies there that was made of the plan with this digest."""
        ...

    def link(self) -> str:
        """Return a web address of the film; empty if it has none."""
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
        """Return if the folder can be written, or made, and the file system takes names this long."""
        folder = self._film.parent
        # os.path, because Path raises an error where this process may not look.
        while not os.path.lexists(folder) and folder != folder.parent:
            folder = folder.parent
        if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):  # noqa: PTH112
            raise StorageError(
                f"output: {self._film.parent} cannot be written; choose another folder or change its rights"
            )
        if os.path.isdir(self._film):  # noqa: PTH112
            raise StorageError(f"output: {self._film} is a folder")
        longest = _part_path(next_certificate_path(self._film))
        spare = os.pathconf(folder, "PC_NAME_MAX") - len(os.fsencode(longest.name))
        if spare < 0:
            raise StorageError(f"output: the name {self._film.name} is {-spare} bytes too long")

    def previous(self) -> PreviousFile | None:
        """Return the file that is there now; see `Destination.previous`."""
        return look_again(self._look)

    def holds(self, plan: str) -> bool:
        """Verify the film that is there, and return whether it was made of the plan with this digest."""
        with contextlib.suppress(FanreelError):
            return verify_film(self._film).plan == plan
        return False

    def _look(self) -> PreviousFile | None:
        try:
            found = self._film.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise storage_error(error, doing=f"read {self._film}") from None
        if not stat.S_ISREG(found.st_mode):
            return PreviousFile(found.st_size, found.st_mtime, is_ours=False)
        if not found.st_size:
            return None
        paths = certificate_path(self._film), next_certificate_path(self._film)
        identity = next(filter(None, (identify_film(self._film, path) for path in paths)), None)
        return PreviousFile(found.st_size, found.st_mtime, is_ours=identity is not None, identity=identity)

    def link(self) -> str:
        """Return an empty string: a folder has no web address."""
        return ""

    def publish(self, draft: Path) -> str:
        """Move the film and its certificate under their final names.

        The certificate waits under another name until the film is there. So whenever this process is killed, the
        film that is there, old or new, has its certificate beside it.
        """
        waiting = next_certificate_path(self._film)
        try:
            self._film.parent.mkdir(parents=True, exist_ok=True)
            with _publishing_into(self._film.parent):
                _move(certificate_path(draft), waiting)
                with _unless_replaced(self._film, waiting):
                    _move(draft, self._film)
                _move(waiting, certificate_path(self._film))
        except OSError as error:
            raise storage_error(error, doing=f"publish {self._film}") from error
        return str(self._film)


@contextlib.contextmanager
def _publishing_into(folder: Path) -> Iterator[None]:
    """Keep other runs from publishing there, so that film and certificate are of one run."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # network file systems do not lock folders
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _unless_replaced(film: Path, waiting: Path) -> Iterator[None]:
    """Remove the waiting certificate if the context fails and the old film is still there."""
    before = _identity(film)
    try:
        yield
    except BaseException:
        if _identity(film) == before:
            waiting.unlink(missing_ok=True)
        raise


def _identity(path: Path) -> tuple[int, int, int] | None:
    with contextlib.suppress(FileNotFoundError):
        found = path.stat()
        return found.st_ino, found.st_mtime_ns, found.st_size
    return None


def _move(source: Path, target: Path) -> None:
    """Move a file to `target`, also from another file system; readers see the old file or the whole new one."""
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(source, target)
        source.unlink()
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _copy(source: Path, target: Path) -> None:
    """Write a copy beside `target` and rename it."""
    # One temporary name for each film, locked: a part that a killed run left is overwritten.
    part = _part_path(target)
    with source.open("rb") as original, _opened_alone(part) as file:
        try:
            shutil.copyfileobj(original, file, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
            if file_digest(part) != file_digest(source):
                raise OSError(errno.EIO, f"the copy differs from {source}")
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def _part_path(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


@contextlib.contextmanager
def _opened_alone(part: Path) -> Iterator[BinaryIO]:
    """Yield the empty file `part`, locked against other runs."""
    while True:
        with part.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(part, file):
                file.truncate(0)
                yield file
                return


def _is_at(path: Path, file: BinaryIO) -> bool:
    """Return whether `file` still has this name: the run that held its lock before may have renamed it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
