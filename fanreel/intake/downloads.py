"""Photos from S3 and from the web, kept in this machine's workspace by the digest of their bytes.

A note for each address says which version of it is here, so that what has not changed is not fetched again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3
from pydantic import TypeAdapter, ValidationError

from fanreel.errors import PhotoNotFoundError, StorageAwayError, UnreadablePhotoError, storage_error
from fanreel.remote.locations import check_allowed, scheme_of, shown_location
from fanreel.remote.s3_uri import S3Object, parse_s3_uri
from fanreel.settings import Settings
from fanreel.store.local import LocalStore
from fanreel.store.seals import file_digest
from fanreel.store.workspace import Workspace

__all__ = ["Downloads"]

_SIGNATURE = re.compile(r"(?<=[?&])x-amz-[^&]*&?", re.IGNORECASE)
"""Says who may read and until when, and nothing of what is read; it is another one each time."""


@dataclass(frozen=True, slots=True)
class _Note:
    """Which bytes an address held.

    Attributes:
        version: What the server called them.
        digest: BLAKE3 of them.
    """

    version: tuple[str, str]
    digest: str


_NOTE = TypeAdapter(_Note)


class Downloads:
    """What was downloaded, among the photos of this machine's workspace; of each tenant in a folder of its own.

    Args:
        settings: Gives the folder, and the bounds of downloads.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._workspace = LocalStore(Workspace.of(settings).root)
        self._notes = self._workspace.root / "downloads"

    def fetch(self, uri: str, *, listed: S3Object | None = None) -> Path:
        """Return a file that holds what is now at an address.

        Args:
            uri: `s3://`, `http://` or `https://`.
            listed: What a listing just said of it, so that it is not asked for again.

        Raises:
            NotAllowedError: This host may not read it.
            PhotoNotFoundError: There is nothing.
            UnreadablePhotoError: It is too large, or the server refuses it.
            StorageError: It cannot be had, or kept.
        """
        check_allowed(uri, settings=self._settings)
        try:
            return self._fetch_object(uri, listed) if scheme_of(uri) == "s3" else self._fetch_page(uri)
        except OSError as error:
            raise storage_error(error, doing=f"write {self._notes}") from error

    def find(self, digest: str) -> Path | None:
        """Return a file with these bytes, proven, if there is one."""
        return self._workspace.local_photo(digest)

    def _fetch_page(self, url: str) -> Path:
        from fanreel.remote.web_download import WebVersion, download  # urllib3 is loaded only where it is needed

        name = blake3(_SIGNATURE.sub("", url).encode()).hexdigest()
        note = self._note(name)
        kept = self.find(note.digest) if note else None
        with self._workspace.scratch() as folder:
            part = folder / "photo"
            known = WebVersion(*note.version) if note and kept else None
            version = download(url, part, settings=self._settings, known=known)
            if version is not None:
                return self._keep(name, part, folder, version=(version.etag, version.modified))
        if kept is None:
            raise StorageAwayError(f"{shown_location(url)}: the server calls unchanged what it has not given yet")
        return kept

    def _fetch_object(self, url: str, listed: S3Object | None) -> Path:
        from fanreel.remote.s3 import s3  # boto3 takes half a second

        uri, most = parse_s3_uri(url), self._settings.max_download_bytes
        if url.endswith("/"):
            raise PhotoNotFoundError(f"{url}: a folder without a photo, or where one file is asked for")
        found = listed or s3().head(uri)
        if found is None:
            raise PhotoNotFoundError(f"{uri}: no such object; the name of a folder ends in /")
        if found.size_bytes > most:
            raise UnreadablePhotoError(
                f"{uri}: over {most / 1e6:g} MB; FANREEL_MAX_DOWNLOAD_MEGABYTES raises the bound"
            )
        name = blake3(str(uri).encode()).hexdigest()
        # Some servers' ETags tell of the time of the last write only, and in full seconds.
        version = (found.etag, f"{found.modified_at.isoformat()} {found.size_bytes}")
        note = self._note(name)
        if note is not None and note.version == version and (kept := self.find(note.digest)):
            return kept
        with self._workspace.scratch() as folder:
            part = folder / "photo"
            if not s3().download(uri, part, largest_bytes=most):
                raise PhotoNotFoundError(f"{uri}: gone since it was looked at")
            return self._keep(name, part, folder, version=version)

    def _note(self, name: str) -> _Note | None:
        try:
            return _NOTE.validate_json((self._notes / f"{name}.json").read_bytes())
        except (OSError, ValidationError):
            return None

    def _keep(self, name: str, part: Path, scratch: Path, *, version: tuple[str, str]) -> Path:
        note = _Note(version, file_digest(part))
        self._workspace.put_photo(note.digest, part)
        if any(version):
            self._notes.mkdir(parents=True, exist_ok=True)
            written = scratch / "note"
            written.write_bytes(_NOTE.dump_json(note))
            written.replace(self._notes / f"{name}.json")
        kept = self.find(note.digest)
        if kept is None:
            raise StorageAwayError(f"{part.name}: the download was removed while it was kept")
        return kept
