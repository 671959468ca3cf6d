"""Photos from S3 and from the web, kept on this machine by the digest of their bytes.

A note for each address says which version of it is here, so that what has not changed is not fetched again.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3
from pydantic import TypeAdapter, ValidationError

from fanreel.errors import PhotoNotFoundError, UnreadablePhotoError, storage_error
from fanreel.media.places import check_place, scheme_of
from fanreel.media.s3 import S3Object, parse_s3, s3
from fanreel.media.store import LocalStore
from fanreel.media.web import WebVersion, download
from fanreel.settings import Settings

__all__ = ["Downloads", "file_digest"]

_SIGNATURE = re.compile(r"(?<=[?&])x-amz-[^&]*&?", re.IGNORECASE)
"""Says who may read and until when, and nothing of what is read; it is another one each time."""


@dataclass(frozen=True, slots=True)
class _Note:
    """Which bytes an address held.

    Attributes:
        version: What the server called them.
        digest: BLAKE3 of them.
    """

    version: tuple[str, ...]
    digest: str


_NOTE = TypeAdapter(_Note)


class Downloads:
    """What was downloaded, in the workspace of this machine; of each tenant in a folder of its own.

    Args:
        settings: Gives the folder, and the bounds of downloads.
    """

    def __init__(self, settings: Settings) -> None:
        root = settings.store / "tenants" / settings.tenant if settings.tenant else settings.store
        self._settings = settings
        self._workspace = LocalStore(root)
        self._folder = root / "downloads"

    def fetch(self, place: str, *, listed: S3Object | None = None) -> Path:
        """Return a file that holds what is now at an address.

        Args:
            place: `s3://`, `http://` or `https://`.
            listed: What a listing just said of it, so that it is not asked for again.

        Raises:
            NotAllowedError: This host may not read it.
            PhotoNotFoundError: There is nothing.
            UnreadablePhotoError: It is too large, or the server refuses it.
            StorageError: It cannot be had, or kept.
        """
        check_place(self._settings, place)
        try:
            if scheme_of(place) == "s3":
                return self._fetch_object(place, listed)
            return self._fetch_page(place)
        except OSError as error:
            raise storage_error(error, doing=f"write {self._folder}") from error

    def find(self, digest: str) -> Path | None:
        """Return a file with these bytes, proven, if there is one."""
        path = self._path(digest)
        with contextlib.suppress(OSError):
            if file_digest(path) == digest:
                return path
        return None

    def _fetch_page(self, url: str) -> Path:
        name = blake3(_SIGNATURE.sub("", url).encode()).hexdigest()
        note, kept = self._look_up(name)
        with self._workspace.scratch() as folder:
            part = folder / "photo"
            version = download(url, part, settings=self._settings, known=WebVersion(*note.version) if note else None)
            if version is None and kept is not None:
                return kept
            assert version is not None, "a server cannot leave unchanged what it was not told of"  # noqa: S101
            return self._keep(name, part, folder, version=(version.etag, version.modified))

    def _fetch_object(self, url: str, listed: S3Object | None) -> Path:
        place, most = parse_s3(url), self._settings.max_download_bytes
        found = listed or s3().head(place)
        if found is None:
            raise PhotoNotFoundError(f"{place}: no such object; the name of a folder ends in /")
        if found.size_bytes > most:
            raise UnreadablePhotoError(
                f"{place}: over {most / 1e6:g} MB; FANREEL_MAX_DOWNLOAD_MEGABYTES raises the bound"
            )
        name = blake3(str(place).encode()).hexdigest()
        version = (found.modified_at.isoformat(), str(found.size_bytes))
        note, kept = self._look_up(name)
        if note is not None and kept is not None and note.version == version:
            return kept
        with self._workspace.scratch() as folder:
            part = folder / "photo"
            if not s3().download(place, part, largest_bytes=most):
                raise PhotoNotFoundError(f"{place}: gone since it was looked at")
            return self._keep(name, part, folder, version=version)

    def _look_up(self, name: str) -> tuple[_Note | None, Path | None]:
        """Return what was noted of an address, and the file, if that is still whole."""
        try:
            note = _NOTE.validate_json((self._folder / "notes" / f"{name}.json").read_bytes())
        except (OSError, ValidationError):
            return None, None
        kept = self.find(note.digest)
        return (note, kept) if kept is not None else (None, None)

    def _keep(self, name: str, part: Path, scratch: Path, *, version: tuple[str, ...]) -> Path:
        note = _Note(version, file_digest(part))
        path, note_path = self._path(note.digest), self._folder / "notes" / f"{name}.json"
        for folder in (path.parent, note_path.parent):
            folder.mkdir(parents=True, exist_ok=True)
        part.replace(path)
        if any(version):
            written = scratch / "note"
            written.write_bytes(_NOTE.dump_json(note))
            written.replace(note_path)
        return path

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest


def file_digest(path: Path) -> str:
    """Return the BLAKE3 of a file's bytes: 64 hexadecimal digits."""
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, blake3).hexdigest()  # pyright: ignore[reportArgumentType]
