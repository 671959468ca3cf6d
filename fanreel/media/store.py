"""The segment store: encoded segments under their addresses, each with its record."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from blake3 import blake3

from fanreel.errors import SegmentDamagedError, SegmentMissingError, storage_error
from fanreel.job import EncoderChoice
from fanreel.media.record import SegmentRecord, record_from_json, record_to_json
from fanreel.plan.film import FilmPlan, plan_digest, plan_from_json, plan_to_json

__all__ = ["LocalStore", "SegmentStore", "accepts"]

BUFFER_BYTES = 1 << 20


class SegmentStore(Protocol):
    """Where segments are kept. What is found is whole: half of a segment is never visible."""

    def find(self, address: str) -> SegmentRecord | None:
        """Return the record of a segment whose bytes are really there, or None."""
        ...

    def get(self, address: str) -> SegmentRecord:
        """Return the record of a segment, without a look at its bytes.

        Raises:
            SegmentMissingError: There is none.
        """
        ...

    def fetch(self, record: SegmentRecord) -> Path:
        """Return a local file that holds the segment.

        Raises:
            SegmentMissingError: It is gone.
        """
        ...

    def put(self, record: SegmentRecord, path: Path) -> None:
        """Keep the segment in the file at `path`, which is moved.

        Raises:
            SegmentDamagedError: The file is not what the record says.
            StorageError: It cannot be kept.
        """
        ...

    def put_plan(self, plan: FilmPlan) -> str:
        """Keep a plan and return its address."""
        ...

    def get_plan(self, address: str) -> FilmPlan:
        """Return a plan that was kept."""
        ...

    def draft_path(self, plan: FilmPlan) -> Path:
        """Return where a film waits, finished and verified, to be published."""
        ...

    def scratch(self) -> AbstractContextManager[Path]:
        """Return a folder for half-made files; it is gone when the context, or this process, ends."""
        ...


def accepts(encoder: EncoderChoice, record: SegmentRecord | None) -> bool:
    """Return whether a stored segment will do for a job that asks for `encoder`."""
    return record is not None and encoder in (EncoderChoice.AUTO, record.encoder)


class LocalStore:
    """A store in a folder of this machine, or one that several machines mount.

    A segment is two files: its film, renamed into place first, and its record, second; without a record it
    does not exist. A writer that dies leaves nothing but a scratch folder, which the next one removes.

    Args:
        root: The folder; made when it is first needed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, address: str) -> SegmentRecord | None:
        """Return the record of a segment whose bytes are really there, or None. Reads all of them."""
        try:
            record = self.get(address)
            _check_payload(record, self._film_path(address))
        except (FileNotFoundError, SegmentMissingError, SegmentDamagedError):
            return None
        except OSError as error:
            raise storage_error(error, doing=f"read the store {self.root}") from error
        return record

    def get(self, address: str) -> SegmentRecord:
        """Return the record of a segment, without a look at its bytes."""
        try:
            return record_from_json(self._record_path(address).read_bytes())
        except FileNotFoundError:
            raise SegmentMissingError(f"segment {address[:12]} is not in {self.root}; run the same command") from None
        except OSError as error:
            raise storage_error(error, doing=f"read the store {self.root}") from error

    def fetch(self, record: SegmentRecord) -> Path:
        """Return the segment's own file."""
        path = self._film_path(record.address)
        if not path.exists():
            raise SegmentMissingError(f"segment {record.address[:12]} is no longer in {self.root}")
        return path

    def put(self, record: SegmentRecord, path: Path) -> None:
        """Check the file against its record, from disk, and move it into place."""
        try:
            _check_payload(record, path)
            film_path = self._film_path(record.address)
            film_path.parent.mkdir(parents=True, exist_ok=True)
            path.replace(film_path)
            self._write(self._record_path(record.address), record_to_json(record))
        except OSError as error:
            raise storage_error(error, doing=f"write the store {self.root}") from error

    def put_plan(self, plan: FilmPlan) -> str:
        """Keep a plan and return its address."""
        address = plan_digest(plan)
        try:
            self._write(self._plan_path(address), plan_to_json(plan))
        except OSError as error:
            raise storage_error(error, doing=f"write the store {self.root}") from error
        return address

    def get_plan(self, address: str) -> FilmPlan:
        """Return a plan that was kept."""
        try:
            return plan_from_json(self._plan_path(address).read_bytes())
        except OSError as error:
            raise storage_error(error, doing=f"read the plan {address[:12]} from {self.root}") from error

    def draft_path(self, plan: FilmPlan) -> Path:
        """Return where a film waits, finished and verified, to be published."""
        return self.root / "drafts" / f"{plan_digest(plan)}.mp4"

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Return a folder for half-made files; those that dead processes left are removed on the way."""
        try:
            folder, lock = _locked_folder(self.root / "scratch")
        except OSError as error:
            raise storage_error(error, doing=f"write the store {self.root} (FANREEL_STORE names another)") from error
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.scratch() as folder:
            part = folder / path.name
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)

    def _film_path(self, address: str) -> Path:
        return self.root / "segments" / address[:2] / f"{address}.mp4"

    def _record_path(self, address: str) -> Path:
        return self._film_path(address).with_suffix(".json")

    def _plan_path(self, address: str) -> Path:
        return self.root / "plans" / f"{address}.json"


def _check_payload(record: SegmentRecord, path: Path) -> None:
    digest = blake3()
    with path.open("rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size != record.payload_offset + record.payload_bytes:
            raise SegmentDamagedError(f"segment {record.address[:12]} is not as long as its record says")
        file.seek(record.payload_offset)
        while data := file.read(BUFFER_BYTES):
            digest.update(data)
    if digest.hexdigest() != record.payload_digest:
        raise SegmentDamagedError(f"segment {record.address[:12]} holds other bytes than its record says")


def _locked_folder(parent: Path) -> tuple[Path, int]:
    """Return a new folder and the descriptor that holds its lock, after removing what dead processes left."""
    parent.mkdir(parents=True, exist_ok=True)
    # Held while folders come and go, so that a new one is not taken for abandoned before it is locked.
    gatekeeper = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(gatekeeper, fcntl.LOCK_EX)
        for folder in parent.iterdir():
            _remove_if_abandoned(folder)
        folder = Path(tempfile.mkdtemp(dir=parent))
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        return folder, lock
    finally:
        os.close(gatekeeper)


def _remove_if_abandoned(folder: Path) -> None:
    """Remove a scratch folder whose owner is dead: the kernel has dropped its lock."""
    with contextlib.suppress(OSError):
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
