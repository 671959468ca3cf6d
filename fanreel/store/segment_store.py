"""The segment store: encoded segments under their addresses, each with its record, and what films need beside them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from fanreel.plan.encoding import EVERY_ENCODER
from fanreel.plan.film import FilmPlan
from fanreel.segments.record import SegmentRecord
from fanreel.settings import Settings
from fanreel.store.files import StoredFiles
from fanreel.store.local import LocalStore
from fanreel.store.manifest import FilmManifest

__all__ = ["SegmentStore", "open_store"]


class SegmentStore(Protocol):
    """Where segments are kept, each as each encoder made it. What is found is whole: half of one is never visible."""

    @property
    def files(self) -> StoredFiles:
        """What lies in it, for those who look after it."""
        ...

    def find_verified(self, address: str, *, encoders: Sequence[str] = EVERY_ENCODER) -> SegmentRecord | None:
        """Return the record of a segment whose bytes are really there, or None. Reads all of them.

        Args:
            address: The segment's.
            encoders: Those whose work will do, the best one first.
        """
        ...

    def find_listed(self, address: str, *, encoders: Sequence[str] = EVERY_ENCODER) -> SegmentRecord | None:
        """Return the record of a segment whose film is there and as long as it should be, or None. Reads none of it."""
        ...

    def read_record(self, address: str, *, encoders: Sequence[str] = EVERY_ENCODER) -> SegmentRecord:
        """Return the record of a segment, without a look at its bytes; see `find_verified`.

        Raises:
            SegmentMissingError: There is none.
        """
        ...

    def local_copy(self, record: SegmentRecord) -> Path:
        """Return a local file that holds the segment.

        Raises:
            SegmentMissingError: It is gone.
            SegmentDamagedError: It was read from far away, and is not what the record says.
        """
        ...

    def put(self, record: SegmentRecord, path: Path) -> None:
        """Keep the segment in the file at `path`, which is moved, unless a whole one by the same encoder is there.

        Raises:
            SegmentDamagedError: The file is not what the record says.
            StorageError: It cannot be kept.
        """
        ...

    def discard_if_damaged(self, record: SegmentRecord) -> bool:
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

    def put_photo(self, digest: str, path: Path) -> None:
        """Keep a copy of the photo at `path`, for other machines, unless there is one.

        Raises:
            PhotoChangedError: The file is not the photo of this digest.
            StorageError: It cannot be kept.
        """
        ...

    def local_photo(self, digest: str) -> Path | None:
        """Return a local file that holds the photo, proven, or None if none is kept; a damaged one is removed."""
        ...

    def put_manifest(self, manifest: FilmManifest) -> None:
        """Keep what is known of a film, in the place of what was known before."""
        ...

    def get_manifest(self, plan: str) -> FilmManifest | None:
        """Return what is known of the film of the plan at this address, or None."""
        ...

    def draft_path(self, plan: FilmPlan) -> Path:
        """Return where a film may wait, finished and verified, to be published: another place for every run."""
        ...

    def scratch(self) -> AbstractContextManager[Path]:
        """Return a folder for half-made files; it is gone when the context, or this process, ends."""
        ...


def open_store(settings: Settings) -> SegmentStore:
    """Return the store that the operator chose, or a tenant's part of it. Touches nothing.

    Raises:
        RequestError: `FANREEL_STORE` names no place.
    """
    root = settings.store / "tenants" / settings.tenant if settings.tenant else settings.store
    if not settings.remote_store:
        return LocalStore(root)
    # A process without such a store has no need of boto3, which takes half a second.
    from fanreel.remote.s3_uri import parse_s3
    from fanreel.store.s3 import S3Store

    place = parse_s3(settings.remote_store)
    return S3Store(place / settings.tenant if settings.tenant else place, workspace=LocalStore(root))
