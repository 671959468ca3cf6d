"""The segment store: encoded segments under their addresses, each with its record."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from blake3 import blake3

from fanreel.errors import SegmentDamagedError, SegmentMissingError, StorageError, storage_error
from fanreel.media.record import SegmentRecord, record_from_json, record_to_json
from fanreel.plan.encoding import EVERY_ENCODER
from fanreel.plan.film import FilmPlan, plan_digest, plan_from_json, plan_to_json

__all__ = ["LocalStore", "SegmentStore"]

BUFFER_BYTES = 1 << 20

LOCK_NAME = ".lock"
"""A file, not the folder itself: network file systems lock only what is open for writing."""

DRAFT_SECONDS = 7 * 86_400.0
"""How long a draft may wait to be published; one that is older belongs to a run that died."""

_SEAL = (b'{"digest":"', b'","record":', b"}")
"""A stored record is JSON around the record's own, with the BLAKE3 of that."""


class SegmentStore(Protocol):
    """Where segments are kept, each as each encoder made it. What is found is whole: half of one is never visible."""

    def find(self, address: str, *, encoders: Sequence[str] = EVERY_ENCODER) -> SegmentRecord | None:
        """Return the record of a segment whose bytes are really there, or None.

        Args:
            address: The segment's.
            encoders: Those whose work will do, the best one first.
        """
        ...

    def get(self, address: str, *, encoders: Sequence[str] = EVERY_ENCODER) -> SegmentRecord:
        """Return the record of a segment, without a look at its bytes; see `find`.

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
        """Keep the segment in the file at `path`, which is moved, unless a whole one by the same encoder is there.

        Raises:
            SegmentDamagedError: The file is not what the record says.
            StorageError: It cannot be kept.
        """
        ...

    def discard(self, record: SegmentRecord) -> bool:
        """Remove a segment if it is no longer whole, so that another encoder's is taken; return whether it was not."""
        ...

    def put_plan(self, plan: FilmPlan) -> str:
        """Keep a plan and return its address."""
        ...

    def get_plan(self, address: str) -> FilmPlan:
        """Return a plan that was kept.

        Raises:
            StorageError: It is not there, or damaged.
        """
        ...

    def draft_path(self, plan: FilmPlan) -> Path:
        """Return where a film may wait, finished and verified, to be published: another place for every run."""
        ...

    def scratch(self) -> AbstractContextManager[Path]:
        """Return a folder for half-made files; it is gone when the context, or this process, ends."""
        ...


class LocalStore:
    """A store in a folder of this machine, or one that several machines mount.

    A segment is two files: its film, renamed into place first, and its record, second; without a record it
    does not exist. Of two that are put at once the first one stays, so that a record and a film never come
    from different writers. A writer that dies leaves nothing but a scratch folder, which the next one removes.

    Args:
        root: The folder; made when it is first needed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, address: str, *, encoders: Sequence[str] = EVERY_ENCODER) -> SegmentRecord | None:
        """Return the record of a segment whose bytes are really there, or None. Reads all of them."""
        for encoder in encoders:
            with contextlib.suppress(SegmentMissingError, SegmentDamagedError):
                return self._find(address, encoder)
        return None

    def get(self, address: str, *, encoders: Sequence[str] = EVERY_ENCODER) -> SegmentRecord:
        """Return the record of a segment, without a look at its film."""
        wrong: StorageError | SegmentDamagedError = SegmentMissingError(
            f"segment {address[:12]} is not in {self.root}; run the same command"
        )
        for encoder in encoders:
            try:
                return self._get(address, encoder)
            except SegmentMissingError:
                continue
            except SegmentDamagedError as error:
                wrong = error
        raise wrong

    def fetch(self, record: SegmentRecord) -> Path:
        """Return the segment's own file."""
        path = self._film_path(record.address, record.encoder)
        try:
            path.stat()
        except FileNotFoundError:
            raise SegmentMissingError(f"segment {record.address[:12]} is no longer in {self.root}") from None
        except OSError as error:
            raise storage_error(error, doing=f"read the store {self.root}") from error
        return path

    def put(self, record: SegmentRecord, path: Path) -> None:
        """Check the file against its record, from disk, and move it into place."""
        film_path = self._film_path(record.address, record.encoder)
        try:
            _check_payload(record, path)
            film_path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(film_path.parent / LOCK_NAME):
                if self.find(record.address, encoders=(record.encoder,)) is not None:
                    path.unlink()
                    return
                path.replace(film_path)
                with _removed_on_error(film_path):
                    self._write(film_path.with_suffix(".json"), _sealed(record_to_json(record)))
        except OSError as error:
            raise storage_error(error, doing=f"write the store {self.root}") from error

    def discard(self, record: SegmentRecord) -> bool:
        """Remove a segment if it is no longer whole."""
        film_path = self._film_path(record.address, record.encoder)
        try:
            if self.find(record.address, encoders=(record.encoder,)) is not None:
                return False
            film_path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(film_path.parent / LOCK_NAME):
                # Looked at again: someone may just have made it anew.
                if self.find(record.address, encoders=(record.encoder,)) is None:
                    film_path.with_suffix(".json").unlink(missing_ok=True)
                    film_path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error, doing=f"write the store {self.root}") from error
        return True

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
            text = self._plan_path(address).read_bytes()
        except OSError as error:
            raise storage_error(error, doing=f"read the plan {address[:12]} from {self.root}") from error
        with contextlib.suppress(ValueError):
            if blake3(text).hexdigest() == address:
                return plan_from_json(text)
        raise StorageError(f"the plan {address[:12]} in {self.root} is damaged or of another version; plan again")

    def draft_path(self, plan: FilmPlan) -> Path:
        """Return where a film may wait; drafts that nobody came for in a week are removed on the way."""
        folder = self.root / "drafts"
        with contextlib.suppress(OSError):
            for draft in folder.iterdir():
                if draft.stat().st_mtime < time.time() - DRAFT_SECONDS:
                    draft.unlink()
        return folder / f"{plan_digest(plan)}-{secrets.token_hex(8)}.mp4"

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
            # In this order: removing takes a descriptor, and others may now remove it at most.
            os.close(lock)
            shutil.rmtree(folder, ignore_errors=True)

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.scratch() as folder:
            part = folder / path.name
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)

    def _find(self, address: str, encoder: str) -> SegmentRecord:
        record = self._get(address, encoder)
        try:
            _check_payload(record, self._film_path(address, encoder))
        except FileNotFoundError:
            raise SegmentMissingError(f"segment {address[:12]} is no longer in {self.root}") from None
        except OSError as error:
            raise storage_error(error, doing=f"read the store {self.root}") from error
        return record

    def _get(self, address: str, encoder: str) -> SegmentRecord:
        try:
            record = record_from_json(_unsealed(self._film_path(address, encoder).with_suffix(".json").read_bytes()))
        except FileNotFoundError:
            raise SegmentMissingError(f"segment {address[:12]} by {encoder} is not in {self.root}") from None
        except OSError as error:
            raise storage_error(error, doing=f"read the store {self.root}") from error
        if (record.address, record.encoder) != (address, encoder):
            raise SegmentDamagedError(f"segment {address[:12]} has the record of {record.address[:12]}")
        return record

    def _film_path(self, address: str, encoder: str) -> Path:
        # Each encoder's in a place of its own: jobs that insist on one must not overwrite each other's for ever.
        return self.root / "segments" / address[:2] / f"{address}.{encoder}.mp4"

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


def _sealed(record: bytes) -> bytes:
    return _SEAL[0] + blake3(record).hexdigest().encode() + _SEAL[1] + record + _SEAL[2]


def _unsealed(text: bytes) -> bytes:
    """Return the record inside a stored one, which is as it was written."""
    head = len(_SEAL[0]) + 2 * blake3.digest_size + len(_SEAL[1])
    record = text[head : -len(_SEAL[2])]
    if _sealed(record) != text:
        raise SegmentDamagedError("a segment's record holds other bytes than were written")
    return record


@contextlib.contextmanager
def _removed_on_error(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock that all writers share; the file stays."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _locked_folder(parent: Path) -> tuple[Path, int]:
    """Return a new folder and the descriptor that holds its lock, after removing what dead processes left."""
    parent.mkdir(parents=True, exist_ok=True)
    # Held while folders come and go, so that a new one is not taken for abandoned before it is locked.
    with _locked(parent / LOCK_NAME):
        for folder in parent.iterdir():
            if folder.name != LOCK_NAME:
                _remove_if_abandoned(folder)
        folder = Path(tempfile.mkdtemp(dir=parent))
        try:
            lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:
            folder.rmdir()
            raise
        fcntl.flock(lock, fcntl.LOCK_EX)
        return folder, lock


def _remove_if_abandoned(folder: Path) -> None:
    """Remove a scratch folder whose owner is dead: the kernel has dropped its lock."""
    with contextlib.suppress(OSError):
        try:
            lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:  # its owner died while it made or removed it
            shutil.rmtree(folder, ignore_errors=True)
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
