"""Notes beside an inbox's films about what each was made of, so that films that are done are not made again."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol

from pydantic import Field, TypeAdapter, ValidationError

from fanreel.errors import storage_error
from fanreel.remote.s3_uri import S3Uri, parse_s3_uri

__all__ = ["RECORDS_FOLDER", "FilmRecords", "LocalRecords", "MadeFilm", "S3Records", "film_size", "open_records"]

RECORDS_FOLDER = ".fanreel-inbox"
"""Folder of the notes, in the folder of the films; names that begin with a dot are no sub-folders of an inbox."""

VERSION = 1


@dataclass(frozen=True, slots=True)
class MadeFilm:
    """What a published film was made of.

    Attributes:
        film: Where it was published; relative to the folder of the films if it lies in there.
        size_bytes: Its size.
        job_digest: Digest of the keys of its job that decide what the film shows; `words` in the stored note.
        listing: Digest of its photos' names, sizes and times of change; see `InboxFolder.listing_digest`.
        content: Digest of their names and bytes; empty if one could not be read.
        version: Version of this format.
    """

    film: str
    size_bytes: int
    job_digest: Annotated[str, Field(alias="words")]
    listing: str
    content: str
    version: int = VERSION


_MADE = TypeAdapter(MadeFilm)


class FilmRecords(Protocol):
    """Notes about films, by the name of the sub-folder."""

    def read(self, name: str) -> MadeFilm | None:
        """Return what the film was made of; None if it was not made, or its note is not valid.

        Raises:
            StorageError: The note cannot be read.
        """
        ...

    def write(self, name: str, made: MadeFilm) -> None:
        """Note what a film was made of.

        Raises:
            StorageError: It cannot be written.
        """
        ...

    def claim(self, name: str) -> AbstractContextManager[bool]:
        """Yield whether the caller may make the film; while the context is open, nobody else may.

        Raises:
            StorageError: The store or the disk fails.
        """
        ...


class LocalRecords:
    """Notes in a folder. Whoever makes a film locks its note; the lock ends with that process.

    A note is never replaced or removed, so that all processes lock the same file. A note that a killed process has
    written in part counts as none.

    Args:
        folder: Where the notes lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> MadeFilm | None:
        """See `FilmRecords.read`."""
        try:
            return _parse(self._path(name).read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise storage_error(error, doing=f"read {self._path(name)}") from None

    def write(self, name: str, made: MadeFilm) -> None:
        """See `FilmRecords.write`."""
        content = _MADE.dump_json(made, by_alias=True)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path(name), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
            with open(descriptor, "wb") as file:  # noqa: PTH123 -- not truncated before it is written
                file.write(content)
                file.truncate()
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise storage_error(error, doing=f"write {self._path(name)}") from None

    @contextlib.contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """See `FilmRecords.claim`. If the file system has no locks, every caller may make the film."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Opened for writing, because network file systems do not lock a file that is open for reading.
            descriptor = os.open(self._path(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise storage_error(error, doing=f"write {self._path(name)}") from None
        try:
            yield _lock(descriptor)
        finally:
            os.close(descriptor)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"


class S3Records:
    """Notes under an S3 prefix. S3 has no locks: runs on several machines may make the same film twice.

    That costs time only: the segments come from one store, and the films differ in encoded bytes at most.

    Args:
        folder: Where the notes lie.
    """

    def __init__(self, folder: S3Uri) -> None:
        self._folder = folder

    def read(self, name: str) -> MadeFilm | None:
        """See `FilmRecords.read`."""
        from fanreel.remote.s3 import s3  # importing boto3 takes half a second

        content = s3().read(self._folder / f"{name}.json")
        return _parse(content) if content is not None else None

    def write(self, name: str, made: MadeFilm) -> None:
        """See `FilmRecords.write`."""
        from fanreel.remote.s3 import s3

        s3().write(_MADE.dump_json(made, by_alias=True), self._folder / f"{name}.json", content_type="application/json")

    @contextlib.contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Yield True: S3 has no locks, so every caller may make the film."""
        del name
        yield True


def open_records(films: str) -> FilmRecords:
    """Return the notes about the films in a folder, or under an ``s3://bucket/prefix``."""
    if films.startswith("s3://"):
        return S3Records(parse_s3_uri(films) / RECORDS_FOLDER)
    return LocalRecords(Path(films) / RECORDS_FOLDER)


def film_size(film: str) -> int | None:
    """Return the size of a published film in bytes, or None if it is not there.

    Raises:
        StorageError: The store or the disk fails.
    """
    if film.startswith("s3://"):
        from fanreel.remote.s3 import s3

        found = s3().head(parse_s3_uri(film))
        return found.size_bytes if found else None
    try:
        return Path(film).stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise storage_error(error, doing=f"read {film}") from None


def _parse(content: bytes) -> MadeFilm | None:
    try:
        made = _MADE.validate_json(content)
    except ValidationError:
        return None
    return made if made.version == VERSION else None


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # the file system has no locks
        return True
    return True
