"""A segment store in an object store: what several machines share without sharing a disk."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from fanreel.errors import (
    PhotoChangedError,
    SegmentDamagedError,
    SegmentMissingError,
    StorageError,
    StorageFullError,
    storage_error,
)
from fanreel.remote.s3 import s3
from fanreel.remote.s3_uri import S3Uri
from fanreel.segments.record import SegmentRecord
from fanreel.store import names
from fanreel.store.files import StoredFile
from fanreel.store.seals import check_segment_file, file_digest, seal_record
from fanreel.store.segment_store import SegmentStore
from fanreel.store.workspace import Fetched, Workspace

__all__ = ["S3Files", "S3Store"]

JSON, VIDEO, PHOTO = "application/json", "video/mp4", "application/octet-stream"


class S3Store(SegmentStore):
    """A store below a prefix, with a folder of this machine for what is half-made or was fetched.

    A segment is two objects: its video, under a name that holds its payload's digest, and its record, written last;
    without a record it does not exist. Two writers' videos never share a name, and either's record names its own.
    Nothing rests on conditional writes, which some servers ignore, and only the care of the store (`files`) lists.

    Args:
        uri: The prefix.
        workspace: Takes scratch folders, drafts and what was fetched.
    """

    def __init__(self, uri: S3Uri, *, workspace: Workspace) -> None:
        super().__init__(S3Files(uri), workspace=workspace)
        self._uri = uri
        self._fetched = Fetched(workspace.root / names.FETCHED)

    def local_copy(self, record: SegmentRecord) -> Path:
        """Return a copy of the segment's file, whose bytes were compared when they came."""
        uri = self._segment_uri(record)
        kept = self._fetched.path(uri.name)
        if self._fetched.has(kept, size_bytes=record.file_bytes):
            return kept
        with self._downloaded(uri) as part:
            if part is None:
                raise self._gone(record)
            check_segment_file(record, part)
            self._fetched.keep(part, kept)
        return kept

    def put(self, record: SegmentRecord, path: Path) -> None:
        """Check the file against its record, from disk, and upload it; a copy stays here for a while.

        A whole segment there stays as it is; a damaged one is written over.
        """
        try:
            check_segment_file(record, path)
        except OSError as error:
            raise storage_error(error, doing=f"read {path}") from error
        if self.find_verified(record.address, encoders=(record.encoder,)) is None:
            uri = self._segment_uri(record)
            s3().upload(path, uri, content_type=VIDEO)
            self._write(names.record(record.address, record.encoder), seal_record(record))
            with contextlib.suppress(StorageError):  # the segment is kept, whether or not this disk takes a copy
                self._fetched.keep(path, self._fetched.path(uri.name))
        path.unlink(missing_ok=True)

    def discard_if_damaged(self, record: SegmentRecord) -> bool:
        """Remove a segment that is not whole, here or there; what is whole there stays."""
        kept = self._fetched.path(self._segment_uri(record).name)
        try:
            check_segment_file(record, kept)
            return False
        except FileNotFoundError:
            copy_was_damaged = False
        except (OSError, SegmentDamagedError):
            copy_was_damaged = True
            kept.unlink(missing_ok=True)
        if self.find_verified(record.address, encoders=(record.encoder,)) is not None:
            return copy_was_damaged
        videos = {self._segment_uri(record)}
        with contextlib.suppress(SegmentMissingError, SegmentDamagedError):
            videos.add(self._segment_uri(self._read_record(record.address, record.encoder)))
        self.files.remove(names.record(record.address, record.encoder))
        s3().delete(*videos)
        return True

    def put_photo(self, digest: str, path: Path) -> None:
        """Upload a photo, unless one of its length is there."""
        uri = self._uri / names.photo(digest)
        try:
            size_bytes = path.stat().st_size
            kept = s3().head(uri)
            if kept is not None and kept.size_bytes == size_bytes:
                return
            if file_digest(path) != digest:
                raise PhotoChangedError(f"{path}: the photo is not the one that was planned; plan again")
        except OSError as error:
            raise storage_error(error, doing=f"read {path}") from error
        # If the photo changes now, `local_photo` sees it on every machine.
        s3().upload(path, uri, content_type=PHOTO)

    def local_photo(self, digest: str) -> Path | None:
        """Return a copy of the photo, or None."""
        uri = self._uri / names.photo(digest)
        kept = self._fetched.path(digest)
        with contextlib.suppress(OSError):
            if self._fetched.has(kept) and file_digest(kept) == digest:
                return kept
        with self._downloaded(uri) as part:
            if part is None:
                return None
            if file_digest(part) != digest:
                s3().delete(uri)
                return None
            self._fetched.keep(part, kept)
        return kept

    @contextlib.contextmanager
    def _downloaded(self, uri: S3Uri) -> Iterator[Path | None]:
        """Yield a file that holds an object, or None; it is gone afterwards unless it was moved."""
        with self.scratch() as folder:
            part = folder / "part"
            try:
                found = s3().download(uri, part)
            except StorageFullError:
                if not self._fetched.sweep(disk_is_full=True):
                    raise
                found = s3().download(uri, part)
            yield part if found else None

    def _write(self, name: str, data: bytes) -> None:
        s3().write(data, self._uri / name, content_type=JSON)

    def _file_bytes(self, record: SegmentRecord) -> int | None:
        found = s3().head(self._segment_uri(record))
        return found.size_bytes if found else None

    def _segment_uri(self, record: SegmentRecord) -> S3Uri:
        name = names.segment_file(record.address, record.encoder, payload_digest=record.payload_digest)
        return self._uri / name


class S3Files:
    """All objects of a store below a prefix.

    Args:
        uri: The prefix.
    """

    def __init__(self, uri: S3Uri) -> None:
        self._uri = uri

    def __str__(self) -> str:
        """Return the prefix."""
        return str(self._uri)

    def list(self, *folders: str) -> Iterator[StoredFile]:
        """Yield every object."""
        above = len(self._uri.key) + 1 if self._uri.key else 0
        for folder in folders or names.KEPT_FOLDERS:
            for found in s3().list(self._uri / folder):
                yield StoredFile(found.uri.key[above:], found.size_bytes, found.modified_at.timestamp())

    def pieces(self, name: str) -> Iterator[bytes] | None:
        """Return the bytes of an object."""
        return s3().pieces(self._uri / name)

    def remove(self, *names: str) -> None:
        """Remove objects."""
        s3().delete(*(self._uri / name for name in names))

    def now(self) -> float:
        """Return the server's time."""
        return s3().now(self._uri).timestamp()

    def sweep(self, *, older_seconds: float) -> int:
        """Abort uploads that were begun so long ago and never ended: their parts cost money, and no list shows them."""
        before = s3().now(self._uri) - timedelta(seconds=older_seconds)
        return sum(s3().abort_uploads(self._uri / folder, before=before) for folder in names.KEPT_FOLDERS)
