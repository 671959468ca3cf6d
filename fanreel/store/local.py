"""A segment store in a folder."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from fanreel.errors import (
    PhotoChangedError,
    SegmentDamagedError,
    SegmentMissingError,
    StorageError,
    storage_error,
)
from fanreel.plan.encoding import EVERY_ENCODER
from fanreel.plan.film import FilmPlan, plan_digest, plan_to_json
from fanreel.segments.record import SegmentRecord
from fanreel.store.files import DRAFTS, FolderFiles
from fanreel.store.manifest import FilmManifest, manifest_from_json, manifest_to_json
from fanreel.store.scratch import LOCK_NAME, locked, scratch_folder
from fanreel.store.seals import check_film_file, file_digest, open_plan, open_record, require_digest, seal_record

__all__ = ["DRAFT_SECONDS", "LocalStore", "first_record"]

DRAFT_SECONDS = 7 * 86_400.0
"""How long a draft may wait to be published; one that is older belongs to a run that died."""


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

    @property
    def files(self) -> FolderFiles:
        """What lies in it, for those who look after it."""
        return FolderFiles(self.root)

    def find_verified(self, address: str, *, encoders: Sequence[str] = EVERY_ENCODER) -> SegmentRecord | None:
        """Return the record of a segment whose bytes are really there, or None. Reads all of them."""
        for encoder in encoders:
            with contextlib.suppress(SegmentMissingError, SegmentDamagedError):
                return self._find(address, encoder)
        return None

    def find_listed(self, address: str, *, encoders: Sequence[str] = EVERY_ENCODER) -> SegmentRecord | None:
        """Return the record of a segment whose film is there and as long as it should be, or None."""
        for encoder in encoders:
            with contextlib.suppress(SegmentMissingError, SegmentDamagedError):
                record = self._get(address, encoder)
                with self._reading():
                    size_bytes = self._film_path(address, encoder).stat().st_size
                if size_bytes == record.payload_offset + record.payload_bytes:
                    return record
        return None

    def read_record(self, address: str, *, encoders: Sequence[str] = EVERY_ENCODER) -> SegmentRecord:
        """Return the record of a segment, without a look at its film."""
        return first_record(self._get, address, encoders, place=str(self.root))

    def local_copy(self, record: SegmentRecord) -> Path:
        """Return the segment's own file."""
        path = self._film_path(record.address, record.encoder)
        with self._reading(f"segment {record.address[:12]} is no longer in {self.root}"):
            path.stat()
        return path

    def put(self, record: SegmentRecord, path: Path) -> None:
        """Check the file against its record, from disk, and move it into place."""
        film_path = self._film_path(record.address, record.encoder)
        with self._writing():
            check_film_file(record, path)
            film_path.parent.mkdir(parents=True, exist_ok=True)
            with locked(film_path.parent / LOCK_NAME):
                if self.find_verified(record.address, encoders=(record.encoder,)) is not None:
                    path.unlink()
                    return
                path.replace(film_path)
                with _removed_on_error(film_path):
                    self._write(film_path.with_suffix(".json"), seal_record(record))

    def discard_if_damaged(self, record: SegmentRecord) -> bool:
        """Remove a segment if it is no longer whole."""
        film_path = self._film_path(record.address, record.encoder)
        with self._writing():
            if self.find_verified(record.address, encoders=(record.encoder,)) is not None:
                return False
            film_path.parent.mkdir(parents=True, exist_ok=True)
            with locked(film_path.parent / LOCK_NAME):
                # Looked at again: someone may just have made it anew.
                if self.find_verified(record.address, encoders=(record.encoder,)) is None:
                    film_path.with_suffix(".json").unlink(missing_ok=True)
                    film_path.unlink(missing_ok=True)
        return True

    def put_plan(self, plan: FilmPlan) -> str:
        """Keep a plan and return its address."""
        address = plan_digest(plan)
        with self._writing():
            self._write(self._plan_path(address), plan_to_json(plan))
        return address

    def get_plan(self, address: str) -> FilmPlan:
        """Return a plan that was kept."""
        try:
            text = self._plan_path(address).read_bytes()
        except OSError as error:
            raise storage_error(error, doing=f"read the plan {address[:12]} from {self.root}") from error
        return open_plan(text, address=address, where=str(self.root))

    def put_photo(self, digest: str, path: Path) -> None:
        """Keep a copy of a photo, unless there is one."""
        kept = self._photo_path(digest)
        with self._writing():
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
        """Return the photo's file, or None; one that is damaged is removed."""
        path = self._photo_path(digest)
        try:
            if file_digest(path) == digest:
                return path
            path.unlink(missing_ok=True)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise storage_error(error, doing=f"read the store {self.root}") from error
        return None

    def put_manifest(self, manifest: FilmManifest) -> None:
        """Keep what is known of a film, in the place of what was known before."""
        with self._writing():
            self._write(self._manifest_path(manifest.plan), manifest_to_json(manifest))

    def get_manifest(self, plan: str) -> FilmManifest | None:
        """Return what is known of a film, or None."""
        try:
            text = self._manifest_path(plan).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise storage_error(error, doing=f"read the store {self.root}") from error
        return manifest_from_json(text, plan=plan)

    def draft_path(self, plan: FilmPlan) -> Path:
        """Return where a film may wait; drafts that nobody came for in a week are removed on the way."""
        folder = self.root / DRAFTS
        with contextlib.suppress(OSError):
            for draft in folder.iterdir():
                if draft.stat().st_mtime < time.time() - DRAFT_SECONDS:
                    draft.unlink()
        return folder / f"{plan_digest(plan)}-{secrets.token_hex(8)}.mp4"

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Return a folder for half-made files; those that dead processes left are removed on the way."""
        try:
            opened = scratch_folder(self.root / "scratch")
        except OSError as error:
            raise storage_error(error, doing=f"write the store {self.root} (FANREEL_STORE names another)") from error
        with opened as folder:
            yield folder

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
        with self._reading(f"segment {address[:12]} is no longer in {self.root}"):
            check_film_file(record, self._film_path(address, encoder))
        return record

    def _get(self, address: str, encoder: str) -> SegmentRecord:
        with self._reading(f"segment {address[:12]} by {encoder} is not in {self.root}"):
            text = self._film_path(address, encoder).with_suffix(".json").read_bytes()
        return open_record(text, address=address, encoder=encoder)

    @contextlib.contextmanager
    def _reading(self, missing: str = "a segment is no longer in the store") -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise SegmentMissingError(missing) from None
        except OSError as error:
            raise storage_error(error, doing=f"read the store {self.root}") from error

    def _writing(self) -> AbstractContextManager[None]:
        return _writing_into(self.root)

    def _film_path(self, address: str, encoder: str) -> Path:
        # Each encoder's in a place of its own: jobs that insist on one must not overwrite each other's for ever.
        return self.root / "segments" / address[:2] / f"{address}.{encoder}.mp4"

    def _plan_path(self, address: str) -> Path:
        return self.root / "plans" / f"{address}.json"

    def _photo_path(self, digest: str) -> Path:
        return self.root / "photos" / require_digest(digest)[:2] / digest

    def _manifest_path(self, plan: str) -> Path:
        return self.root / "films" / f"{require_digest(plan)}.json"


def first_record(
    get: Callable[[str, str], SegmentRecord], address: str, encoders: Sequence[str], *, place: str
) -> SegmentRecord:
    """Return the record of a segment as the first of `encoders` made it that has one.

    Args:
        get: Gives the record of a segment by one encoder, or raises as here.
        address: The segment's.
        encoders: Those whose work will do, the best one first.
        place: Where it was looked for, for people.

    Raises:
        SegmentMissingError: None has made it.
        SegmentDamagedError: All that there is of it are records that are damaged.
    """
    wrong: StorageError | SegmentDamagedError = SegmentMissingError(
        f"segment {address[:12]} is not in {place}; run the same command"
    )
    for encoder in encoders:
        try:
            return get(address, encoder)
        except SegmentMissingError:
            continue
        except SegmentDamagedError as error:
            wrong = error
    raise wrong


@contextlib.contextmanager
def _writing_into(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(error, doing=f"write the store {root}") from error


@contextlib.contextmanager
def _removed_on_error(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise
