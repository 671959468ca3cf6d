"""The segment store: encoded segments under their addresses, each with its record, and what films need beside them."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from fanreel.codecs import ENCODER_NAMES
from fanreel.errors import SegmentDamagedError, SegmentMissingError, StorageError, storage_error
from fanreel.plan.film import FilmPlan, plan_digest, plan_to_json
from fanreel.segments.record import SegmentRecord
from fanreel.store import names
from fanreel.store.files import StoredFiles, read_file
from fanreel.store.manifest import FilmManifest, manifest_from_json, manifest_to_json
from fanreel.store.seals import check_segment_file, open_plan, open_record
from fanreel.store.workspace import Workspace

__all__ = ["SegmentStore"]


class SegmentStore(ABC):
    """Where segments are kept, each as each encoder made it. What is found is whole: half of one is never visible.

    Args:
        files: All files of the store.
        workspace: This machine's own files.
    """

    def __init__(self, files: StoredFiles, *, workspace: Workspace) -> None:
        self.files = files
        self._workspace = workspace

    def find_verified(self, address: str, *, encoders: Sequence[str] = ENCODER_NAMES) -> SegmentRecord | None:
        """Return the record of a segment after reading its file and comparing digests, or None if none is whole.

        Args:
            address: The segment's.
            encoders: Those whose work will do, the best one first.

        Raises:
            StorageError: The store cannot be read.
        """
        return self._find(self._read_verified, address, encoders)

    def find_listed(self, address: str, *, encoders: Sequence[str] = ENCODER_NAMES) -> SegmentRecord | None:
        """Return the record of a segment whose file is there and as long as it should be, or None. Reads no payload.

        In S3 this takes one request for each encoder that has not made the segment, and two for the one that has.

        Raises:
            StorageError: The store cannot be read.
        """
        return self._find(self._read_listed, address, encoders)

    def read_record(self, address: str, *, encoders: Sequence[str] = ENCODER_NAMES) -> SegmentRecord:
        """Return the record of a segment, without a look at its file.

        Raises:
            SegmentMissingError: None of the encoders has made it.
            SegmentDamagedError: No record of it is whole.
            StorageError: The store cannot be read.
        """
        return self._first(self._read_record, address, encoders)

    @abstractmethod
    def local_copy(self, record: SegmentRecord) -> Path:
        """Return a file of this machine that holds the segment.

        Raises:
            SegmentMissingError: It is gone.
            SegmentDamagedError: It was fetched from far away, and is not what the record says.
            StorageError: It cannot be read.
        """

    @abstractmethod
    def put(self, record: SegmentRecord, path: Path) -> None:
        """Keep the segment in the file at `path`, which is moved, unless a whole one by the same encoder is there.

        Raises:
            SegmentDamagedError: The file is not what the record says.
            StorageError: It cannot be kept.
        """

    @abstractmethod
    def discard_if_damaged(self, record: SegmentRecord) -> bool:
        """Remove a segment unless it is whole, so that another encoder's is taken; return whether it was not whole."""

    def put_plan(self, plan: FilmPlan) -> str:
        """Keep a plan and return its address."""
        address = plan_digest(plan)
        self._write(names.plan(address), plan_to_json(plan))
        return address

    def get_plan(self, address: str) -> FilmPlan:
        """Return a plan that was kept.

        Raises:
            StorageError: It is not there, or damaged.
        """
        text = read_file(self.files, names.plan(address))
        if text is None:
            raise StorageError(f"the plan {address[:12]} is not in {self.files}; plan again")
        return open_plan(text, address=address, where=str(self.files))

    def put_manifest(self, manifest: FilmManifest) -> None:
        """Keep what is known of a film, in the place of what was known before."""
        self._write(names.manifest(manifest.plan), manifest_to_json(manifest))

    def get_manifest(self, plan: str) -> FilmManifest | None:
        """Return what is known of the film whose plan has this address, or None."""
        text = read_file(self.files, names.manifest(plan))
        return None if text is None else manifest_from_json(text, plan=plan)

    @abstractmethod
    def put_photo(self, digest: str, path: Path) -> None:
        """Keep a copy of the photo at `path`, for other machines, unless there is one.

        Raises:
            PhotoChangedError: The file is not the photo of this digest.
            StorageError: It cannot be kept.
        """

    @abstractmethod
    def local_photo(self, digest: str) -> Path | None:
        """Return a file of this machine that holds the photo, every byte compared, or None if the store has no copy.

        A damaged copy is removed.
        """

    def draft_path(self, plan: FilmPlan) -> Path:
        """Return where a finished, verified film may wait to be published: another path for every run."""
        return self._workspace.draft_path(plan)

    def scratch(self) -> AbstractContextManager[Path]:
        """Return a folder for half-made files; it is gone when the context, or this process, ends."""
        return self._workspace.scratch()

    @abstractmethod
    def _write(self, name: str, data: bytes) -> None:
        """Make `data` the file of this name, at once as others see it."""

    @abstractmethod
    def _file_bytes(self, record: SegmentRecord) -> int | None:
        """Return how long the segment's file is, or None if it is missing."""

    def _read_record(self, address: str, encoder: str) -> SegmentRecord:
        text = read_file(self.files, names.record(address, encoder))
        if text is None:
            raise SegmentMissingError(f"segment {address[:12]} by {encoder} is not in {self.files}")
        return open_record(text, address=address, encoder=encoder)

    def _read_listed(self, address: str, encoder: str) -> SegmentRecord:
        record = self._read_record(address, encoder)
        if self._file_bytes(record) != record.file_bytes:
            raise SegmentDamagedError(f"segment {address[:12]} is missing, or not as long as its record says")
        return record

    def _read_verified(self, address: str, encoder: str) -> SegmentRecord:
        record = self._read_record(address, encoder)
        path = self.local_copy(record)
        try:
            check_segment_file(record, path)
        except FileNotFoundError:
            raise self._gone(record) from None
        except OSError as error:
            raise storage_error(error, doing=f"read {path}") from error
        return record

    def _gone(self, record: SegmentRecord) -> SegmentMissingError:
        return SegmentMissingError(f"segment {record.address[:12]} is no longer in {self.files}")

    def _find(
        self, read: Callable[[str, str], SegmentRecord], address: str, encoders: Sequence[str]
    ) -> SegmentRecord | None:
        with contextlib.suppress(SegmentMissingError, SegmentDamagedError):
            return self._first(read, address, encoders)
        return None

    def _first(self, read: Callable[[str, str], SegmentRecord], address: str, encoders: Sequence[str]) -> SegmentRecord:
        """Return what `read` returns for the first encoder for which it raises nothing.

        Raises:
            SegmentMissingError: None has made the segment.
            SegmentDamagedError: What there is of it is damaged.
        """
        wrong: SegmentMissingError | SegmentDamagedError = SegmentMissingError(
            f"segment {address[:12]} is not in {self.files}; run the same command"
        )
        for encoder in encoders:
            try:
                return read(address, encoder)
            except SegmentMissingError:
                continue
            except SegmentDamagedError as error:
                wrong = error
        raise wrong
