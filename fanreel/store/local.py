"""A segment store in a folder."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from fanreel.errors import PhotoChangedError
from fanreel.segments.record import SegmentRecord
from fanreel.store import names
from fanreel.store.files import FolderFiles, storage_errors
from fanreel.store.seals import check_segment_file, file_digest, seal_record
from fanreel.store.segment_store import SegmentStore
from fanreel.store.workspace import LOCK_NAME, Workspace, locked

__all__ = ["LocalStore"]


class LocalStore(SegmentStore):
    """A store in a folder of this machine, or one that several machines mount.

    A segment is two files: its video, renamed into place first, and its record, second; without a record it
    does not exist. Of two that are put at once the first one stays, so that a record and a video never come
    from different writers. A writer that dies leaves nothing but a scratch folder, which the next one removes.

    Args:
        root: The folder; made when it is first needed.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(FolderFiles(root), workspace=Workspace(root))
        self.root = root

    def local_copy(self, record: SegmentRecord) -> Path:
        """Return the segment's own file."""
        if self._file_bytes(record) is None:
            raise self._gone(record)
        return self._segment_path(record)

    def put(self, record: SegmentRecord, path: Path) -> None:
        """Check the file against its record, from disk, and move it into place."""
        kept = self._segment_path(record)
        with storage_errors("write", self.root):
            check_segment_file(record, path)
            kept.parent.mkdir(parents=True, exist_ok=True)
            with locked(kept.parent / LOCK_NAME):
                if self._is_whole(record):
                    path.unlink()
                    return
                path.replace(kept)
                try:
                    self._write(names.record(record.address, record.encoder), seal_record(record))
                except BaseException:
                    kept.unlink(missing_ok=True)
                    raise

    def discard_if_damaged(self, record: SegmentRecord) -> bool:
        """Remove a segment if it is no longer whole."""
        kept = self._segment_path(record)
        with storage_errors("write", self.root):
            if self._is_whole(record):
                return False
            kept.parent.mkdir(parents=True, exist_ok=True)
            with locked(kept.parent / LOCK_NAME):
                # Looked at again: someone may just have made it anew.
                if not self._is_whole(record):
                    self.files.remove(names.record(record.address, record.encoder))
                    kept.unlink(missing_ok=True)
        return True

    def put_photo(self, digest: str, path: Path) -> None:
        """Copy a photo into place, unless one of its length is there."""
        kept = self.root / names.photo(digest)
        with storage_errors("write", self.root):
            if kept.exists() and kept.stat().st_size == path.stat().st_size:
                return
            kept.parent.mkdir(parents=True, exist_ok=True)
            with self.scratch() as folder:
                part = folder / digest
                shutil.copyfile(path, part)
                if file_digest(part) != digest:
                    raise PhotoChangedError(f"{path}: the photo is not the one that was planned; plan again")
                part.replace(kept)

    def local_photo(self, digest: str) -> Path | None:
        """Return the photo's own file, or None."""
        path = self.root / names.photo(digest)
        with storage_errors("read", self.root), contextlib.suppress(FileNotFoundError):
            if file_digest(path) == digest:
                return path
            path.unlink(missing_ok=True)
        return None

    def _write(self, name: str, data: bytes) -> None:
        path = self.root / name
        with storage_errors("write", self.root):
            path.parent.mkdir(parents=True, exist_ok=True)
            with self.scratch() as folder:
                part = folder / path.name
                with part.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(path)

    def _file_bytes(self, record: SegmentRecord) -> int | None:
        with storage_errors("read", self.root), contextlib.suppress(FileNotFoundError):
            return self._segment_path(record).stat().st_size
        return None

    def _is_whole(self, record: SegmentRecord) -> bool:
        return self.find_verified(record.address, encoders=(record.encoder,)) is not None

    def _segment_path(self, record: SegmentRecord) -> Path:
        return self.root / names.segment_file(record.address, record.encoder)
