"""The files of a store, listed, read and removed by name."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from fanreel.errors import storage_error
from fanreel.store import names
from fanreel.store.seals import pieces_of

__all__ = ["FolderFiles", "StoredFile", "StoredFiles", "read_file", "storage_errors"]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a store.

    Attributes:
        name: Its path below the store's root, with slashes.
        size_bytes: Its length.
        modified_at: Unix time at which it was written, by the store's own clock.
    """

    name: str
    size_bytes: int
    modified_at: float


class StoredFiles(Protocol):
    """All files of a store; as text, where they are."""

    def list(self, *folders: str) -> Iterator[StoredFile]:
        """Yield every file below these folders, or below all, in no order."""
        ...

    def pieces(self, name: str) -> Iterator[bytes] | None:
        """Return the bytes of a file, piece by piece, or None if there is none of this name."""
        ...

    def remove(self, *names: str) -> None:
        """Remove files; one that is not there is no error."""
        ...

    def now(self) -> float:
        """Return the Unix time of the clock that `StoredFile.modified_at` is read from."""
        ...

    def sweep(self, *, older_seconds: float) -> int:
        """Remove the parts of uploads that never ended, which no list shows; return how many uploads."""
        ...


def read_file(files: StoredFiles, name: str) -> bytes | None:
    """Return the bytes of a small file, or None if there is none of this name."""
    pieces = files.pieces(name)
    return None if pieces is None else b"".join(pieces)


@contextlib.contextmanager
def storage_errors(verb: str, root: Path) -> Iterator[None]:
    """Raise errors of the file system as `StorageError`: the store could not be read, or written.

    Args:
        verb: "read" or "write".
        root: The store's folder.
    """
    try:
        yield
    except OSError as error:
        raise storage_error(error, doing=f"{verb} the store {root}") from error


class FolderFiles:
    """The files of a store in a folder.

    Args:
        root: The store's folder; need not exist.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def __str__(self) -> str:
        """Return the folder."""
        return str(self._root)

    def list(self, *folders: str) -> Iterator[StoredFile]:
        """Yield every file; one that is removed meanwhile is left out."""
        for folder in folders or (*names.KEPT_FOLDERS, names.DRAFTS):
            for parent, _, found_names in os.walk(self._root / folder, onerror=self._refuse):
                for name in found_names:
                    path = Path(parent, name)
                    try:
                        found = path.stat()
                    except FileNotFoundError:
                        continue
                    if not name.startswith("."):
                        yield StoredFile(path.relative_to(self._root).as_posix(), found.st_size, found.st_mtime)

    def pieces(self, name: str) -> Iterator[bytes] | None:
        """Return the bytes of a file."""
        with storage_errors("read", self._root), contextlib.suppress(FileNotFoundError):
            return self._read((self._root / name).open("rb", buffering=0))
        return None

    def remove(self, *names: str) -> None:
        """Remove files."""
        with storage_errors("write", self._root):
            for name in names:
                (self._root / name).unlink(missing_ok=True)

    def now(self) -> float:
        """Return the time of the file system's clock: of a shared folder, another machine's."""
        with storage_errors("write", self._root):
            self._root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._root) as file:
                return os.fstat(file.fileno()).st_mtime

    def sweep(self, *, older_seconds: float) -> int:
        """Remove nothing: half-made files lie in scratch folders, which the next run removes."""
        return 0

    def _read(self, file: BinaryIO) -> Iterator[bytes]:
        with storage_errors("read", self._root), file:
            yield from pieces_of(file)

    def _refuse(self, error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise storage_error(error, doing=f"read the store {self._root}") from error
