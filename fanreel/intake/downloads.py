"""Photos from S3 and from the web, kept in this machine's workspace by the digest of their bytes.

A note for each URI says which version of its file is here, so that a file that has not changed is not fetched again.
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
"""Query parameters of a presigned URL: they differ each time, and do not say which file is read."""


@dataclass(frozen=True, slots=True)
class _Note:
    """Which bytes were at a URI.

    Attributes:
        version: The server's identifiers of these bytes.
        digest: Their BLAKE3, in hexadecimal digits.
    """

    version: tuple[str, str]
    digest: str


_NOTE = TypeAdapter(_Note)


class Downloads:
    """The downloads of this machine, kept among the photos of its workspace; each tenant has a folder of its own.

    Args:
        settings: Name the folder, and bound the downloads.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._workspace = LocalStore(Workspace.of(settings).root)
        self._notes = self._workspace.root / "downloads"

    def fetch(self, uri: str, *, listed: S3Object | None = None) -> Path:
        """Return a file with the bytes that are at a URI now.

        Args:
            uri: `s3://`, `http://` or `https://`.
            listed: What a listing said about it a moment ago, so that the server is not asked again.

        Raises:
            NotAllowedError: This host may not read the URI.
            PhotoNotFoundError: There is no such file.
            UnreadablePhotoError: The file is too large, or the server refuses to send it.
            StorageError: The file cannot be downloaded, or not be kept.
        """
        check_allowed(uri, settings=self._settings)
        try:
            return self._fetch_object(uri, listed) if scheme_of(uri) == "s3" else self._fetch_page(uri)
        except OSError as error:
            raise storage_error(error, doing=f"write {self._notes}") from error

    def find(self, digest: str) -> Path | None:
        """Return a file whose bytes were checked to have this digest; None if there is none."""
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
            raise StorageAwayError(f"{shown_location(url)}: the server calls a file unchanged that it has not sent yet")
        return kept

    def _fetch_object(self, url: str, listed: S3Object | None) -> Path:
        from fanreel.remote.s3 import s3  # boto3 takes half a second

        uri, most = parse_s3_uri(url), self._settings.max_download_bytes
        if url.endswith("/"):
            raise PhotoNotFoundError(f"{url}: a folder without a photo, or where one file is asked for")
        found = listed or s3().head(uri)
        if found is None:
            is_folder = next(iter(s3().list(uri)), None) is not None
            hint = f", but a folder; the name of a folder ends in /: {uri}/" if is_folder else ""
            raise PhotoNotFoundError(f"{shown_location(str(uri))}: no such object{hint}")
        if found.size_bytes > most:
            raise UnreadablePhotoError(
                f"{uri}: over {most / 1e6:g} MB; FANREEL_MAX_DOWNLOAD_MEGABYTES raises the bound"
            )
        name = blake3(str(uri).encode()).hexdigest()
        # Some servers make their ETag of nothing but the time of the last write, in full seconds.
        version = (found.etag, f"{found.modified_at.isoformat()} {found.size_bytes}")
        note = self._note(name)
        if note is not None and note.version == version and (kept := self.find(note.digest)):
            return kept
        with self._workspace.scratch() as folder:
            part = folder / "photo"
            if not s3().download(uri, part, largest_bytes=most):
                raise PhotoNotFoundError(f"{uri}: removed after the server listed it")
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
            raise StorageAwayError(f"{part.name}: another process removed the download; run the same command again")
        return kept
