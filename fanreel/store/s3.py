"""A segment store in an object store: what several machines share without sharing a disk."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
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
from fanreel.plan.encoding import EVERY_ENCODER
from fanreel.plan.film import FilmPlan, plan_digest, plan_to_json
from fanreel.remote.s3 import s3
from fanreel.remote.s3_uri import S3Place
from fanreel.segments.record import SegmentRecord
from fanreel.store.cache import Fetched
from fanreel.store.files import KEPT_FOLDERS, StoredFile
from fanreel.store.inventory import DIGITS
from fanreel.store.local import LocalStore, first_record
from fanreel.store.manifest import FilmManifest, manifest_from_json, manifest_to_json
from fanreel.store.seals import check_film_file, file_digest, open_plan, open_record, require_digest, seal_record

__all__ = ["S3Files", "S3Store"]

JSON, FILM, PHOTO = "application/json", "video/mp4", "application/octet-stream"


class S3Store:
    """A store below a prefix, with a folder of this machine for what is half-made or was fetched.

    A segment is two objects: its film, under a name that holds its digest, and its record, written last; without a
    record it does not exist. Of two that are put at once either record stays, and its film with it. Nothing rests on
    conditional writes, which some servers ignore, and nothing but the care of the store (`files`) lists.

    Args:
        place: The prefix.
        workspace: Gives scratch folders and drafts.
    """

    def __init__(self, place: S3Place, *, workspace: LocalStore) -> None:
        self._place = place
        self._workspace = workspace
        self._fetched = Fetched(workspace.root / "fetched")

    @property
    def files(self) -> S3Files:
        """What lies in it, for those who look after it."""
        return S3Files(self._place)

    def find_verified(self, address: str, *, encoders: Sequence[str] = EVERY_ENCODER) -> SegmentRecord | None:
        """Return the record of a segment whose bytes are really there, or None. Fetches them."""
        for encoder in encoders:
            with contextlib.suppress(SegmentMissingError, SegmentDamagedError):
                record = self._get(address, encoder)
                check_film_file(record, self.local_copy(record))
                return record
        return None

    def find_listed(self, address: str, *, encoders: Sequence[str] = EVERY_ENCODER) -> SegmentRecord | None:
        """Return the record of a segment whose film is there and as long as it should be, or None.

        One request an encoder that has not made it, and two for the one that has.
        """
        for encoder in encoders:
            with contextlib.suppress(SegmentMissingError, SegmentDamagedError):
                record = self._get(address, encoder)
                film = s3().head(self._film_place(record))
                if film is not None and film.size_bytes == record.payload_offset + record.payload_bytes:
                    return record
        return None

    def read_record(self, address: str, *, encoders: Sequence[str] = EVERY_ENCODER) -> SegmentRecord:
        """Return the record of a segment, without a look at its film."""
        return first_record(self._get, address, encoders, place=str(self._place))

    def local_copy(self, record: SegmentRecord) -> Path:
        """Return a file of this machine that holds the segment; its bytes were proven when they came."""
        kept = self._fetched.path(self._film_place(record).name)
        if self._fetched.has(kept, size_bytes=record.payload_offset + record.payload_bytes):
            return kept
        with self._downloaded(self._film_place(record)) as part:
            if part is None:
                raise SegmentMissingError(f"segment {record.address[:12]} is no longer in {self._place}")
            check_film_file(record, part)
            self._fetched.keep(part, kept)
        return kept

    def put(self, record: SegmentRecord, path: Path) -> None:
        """Check the file against its record, from disk, and upload it; a copy stays here for a while.

        What is whole there stays as it is; what is damaged there is written over.
        """
        try:
            check_film_file(record, path)
        except OSError as error:
            raise storage_error(error, doing=f"read {path}") from error
        if self.find_verified(record.address, encoders=(record.encoder,)) is None:
            s3().upload(path, self._film_place(record), content_type=FILM)
            s3().write(seal_record(record), self._record_place(record.address, record.encoder), content_type=JSON)
            with contextlib.suppress(StorageError):  # a disk that is full is none of the segment's matter any more
                self._fetched.keep(path, self._fetched.path(self._film_place(record).name))
        path.unlink(missing_ok=True)

    def discard_if_damaged(self, record: SegmentRecord) -> bool:
        """Remove a segment if it is no longer whole, here or there; what is whole there stays."""
        kept = self._fetched.path(self._film_place(record).name)
        try:
            check_film_file(record, kept)
            return False
        except FileNotFoundError:
            here_is_wrong = False
        except (OSError, SegmentDamagedError):
            here_is_wrong = True
            kept.unlink(missing_ok=True)
        if self.find_verified(record.address, encoders=(record.encoder,)) is not None:
            return here_is_wrong
        films = {self._film_place(record)}
        with contextlib.suppress(SegmentMissingError, SegmentDamagedError):
            films.add(self._film_place(self._get(record.address, record.encoder)))
        s3().delete(self._record_place(record.address, record.encoder))
        s3().delete(*films)
        return True

    def put_plan(self, plan: FilmPlan) -> str:
        """Keep a plan and return its address."""
        address = plan_digest(plan)
        s3().write(plan_to_json(plan), self._plan_place(address), content_type=JSON)
        return address

    def get_plan(self, address: str) -> FilmPlan:
        """Return a plan that was kept."""
        text = s3().read(self._plan_place(address))
        if text is None:
            raise StorageError(f"the plan {address[:12]} is not in {self._place}; plan again")
        return open_plan(text, address=address, where=str(self._place))

    def put_photo(self, digest: str, path: Path) -> None:
        """Upload a photo, unless one of its length is there."""
        place = self._photo_place(digest)
        try:
            size_bytes = path.stat().st_size
            kept = s3().head(place)
            if kept is not None and kept.size_bytes == size_bytes:
                return
            if file_digest(path) != digest:
                raise PhotoChangedError(f"{path}: the photo is not the one that was planned; plan again")
        except OSError as error:
            raise storage_error(error, doing=f"read {path}") from error
        # Should it change now, whoever fetches it sees so.
        s3().upload(path, place, content_type=PHOTO)

    def local_photo(self, digest: str) -> Path | None:
        """Return a file of this machine that holds the photo, or None; one that is damaged is removed."""
        place = self._photo_place(digest)
        kept = self._fetched.path(digest)
        with contextlib.suppress(OSError):
            if self._fetched.has(kept) and file_digest(kept) == digest:
                return kept
        with self._downloaded(place) as part:
            if part is None:
                return None
            if file_digest(part) != digest:
                s3().delete(place)
                return None
            self._fetched.keep(part, kept)
        return kept

    def put_manifest(self, manifest: FilmManifest) -> None:
        """Keep what is known of a film, in the place of what was known before."""
        s3().write(manifest_to_json(manifest), self._manifest_place(manifest.plan), content_type=JSON)

    def get_manifest(self, plan: str) -> FilmManifest | None:
        """Return what is known of a film, or None."""
        text = s3().read(self._manifest_place(plan))
        return None if text is None else manifest_from_json(text, plan=plan)

    def draft_path(self, plan: FilmPlan) -> Path:
        """Return where a film may wait, on this machine."""
        return self._workspace.draft_path(plan)

    def scratch(self) -> AbstractContextManager[Path]:
        """Return a folder of this machine for half-made files."""
        return self._workspace.scratch()

    @contextlib.contextmanager
    def _downloaded(self, place: S3Place) -> Iterator[Path | None]:
        """Yield a file that holds an object, or None; it is gone afterwards unless it was moved."""
        with self.scratch() as folder:
            part = folder / "part"
            try:
                found = s3().download(place, part)
            except StorageFullError:
                if not self._fetched.sweep(all_idle=True):
                    raise
                found = s3().download(place, part)
            yield part if found else None

    def _get(self, address: str, encoder: str) -> SegmentRecord:
        text = s3().read(self._record_place(address, encoder))
        if text is None:
            raise SegmentMissingError(f"segment {address[:12]} by {encoder} is not in {self._place}")
        return open_record(text, address=address, encoder=encoder)

    def _record_place(self, address: str, encoder: str) -> S3Place:
        return self._place / f"segments/{address[:2]}/{address}.{encoder}.json"

    def _film_place(self, record: SegmentRecord) -> S3Place:
        # With digits, so that two writers' films never share a name and neither's record tells of the other's.
        address, digits = record.address, record.payload_digest[:DIGITS]
        return self._place / f"segments/{address[:2]}/{address}.{record.encoder}.{digits}.mp4"

    def _plan_place(self, address: str) -> S3Place:
        return self._place / f"plans/{address}.json"

    def _photo_place(self, digest: str) -> S3Place:
        return self._place / f"photos/{require_digest(digest)[:2]}/{digest}"

    def _manifest_place(self, plan: str) -> S3Place:
        return self._place / f"films/{require_digest(plan)}.json"


class S3Files:
    """The files of a store below a prefix.

    Args:
        place: The prefix.
    """

    def __init__(self, place: S3Place) -> None:
        self._place = place

    def __str__(self) -> str:
        """Return the prefix."""
        return str(self._place)

    def list(self, *folders: str) -> Iterator[StoredFile]:
        """Yield every object."""
        above = len(self._place.key) + 1 if self._place.key else 0
        for folder in folders or KEPT_FOLDERS:
            for found in s3().list(self._place / folder):
                yield StoredFile(found.place.key[above:], found.size_bytes, found.modified_at.timestamp())

    def pieces(self, name: str) -> Iterator[bytes] | None:
        """Return the bytes of an object."""
        return s3().pieces(self._place / name)

    def remove(self, *names: str) -> None:
        """Remove objects."""
        s3().delete(*(self._place / name for name in names))

    def now(self) -> float:
        """Return the server's time."""
        return s3().now(self._place).timestamp()

    def sweep(self, *, older_seconds: float) -> int:
        """Abort uploads that were begun so long ago and never ended: their parts cost money and show nowhere."""
        before = s3().now(self._place) - timedelta(seconds=older_seconds)
        return sum(s3().abort_uploads(self._place / folder, before=before) for folder in KEPT_FOLDERS)
