"""The files of a store as they lie there, for those who look after it: listed, read and removed by name."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fanreel.errors import storage_error
from fanreel.store.seals import pieces_of

__all__ = ["DRAFTS", "KEPT_FOLDERS", "FolderFiles", "StoredFile", "StoredFiles"]

KEPT_FOLDERS = ("segments", "plans", "photos", "films")
"""Where a store keeps what it keeps, each below its root."""

DRAFTS = "drafts"


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
        """Remove files; what is not there is no error."""
        ...

    def now(self) -> float:
        """Return the Unix time by the clock that `StoredFile.modified_at` goes by."""
        ...

    def sweep(self, *, older_seconds: float) -> int:
        """Remove what uploads that never ended left, and no list shows; return how many."""
        ...


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
        """Yield every file; those that go meanwhile are left out."""
        for folder in folders or (*KEPT_FOLDERS, DRAFTS):
            for parent, _, names in os.walk(self._root / folder, onerror=self._refuse):
                for name in names:
                    path = Path(parent, name)
                    try:
                        found = path.stat()
                    except FileNotFoundError:
                        continue
                    if not name.startswith("."):
                        yield StoredFile(path.relative_to(self._root).as_posix(), found.st_size, found.st_mtime)

    def pieces(self, name: str) -> Iterator[bytes] | None:
        """Return the bytes of a file."""
        try:
            file = (self._root / name).open("rb", buffering=0)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise storage_error(error, doing=f"read the store {self._root}") from error

        def read() -> Iterator[bytes]:
            try:
                with file:
                    yield from pieces_of(file)
            except OSError as error:
                raise storage_error(error, doing=f"read the store {self._root}") from error

        return read()

    def remove(self, *names: str) -> None:
        """Remove files."""
        try:
            for name in names:
                (self._root / name).unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error, doing=f"write the store {self._root}") from error

    def now(self) -> float:
        """Return the time by the file system's clock, which on a shared folder is another machine's."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._root) as file:
                return os.fstat(file.fileno()).st_mtime
        except OSError as error:
            raise storage_error(error, doing=f"write the store {self._root}") from error

    def sweep(self, *, older_seconds: float) -> int:
        """Do nothing: what half-made files there are lie in scratch folders, which the next run removes."""
        return 0

    def _refuse(self, error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise storage_error(error, doing=f"read the store {self._root}") from error
