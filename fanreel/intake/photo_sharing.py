"""Photos between machines: kept in the store by one, found again by another."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from fanreel.errors import NotAllowedError, PhotoChangedError
from fanreel.intake.downloads import Downloads
from fanreel.plan.film import FilmPlan
from fanreel.plan.segments import Segment
from fanreel.remote.locations import check_allowed, scheme_of, shown_location
from fanreel.settings import Settings
from fanreel.store.seals import file_digest
from fanreel.store.segment_store import SegmentStore

__all__ = ["localize_photos", "share_photos"]

READERS = 4
"""Photos looked for at the same time; most of the time is spent waiting for a disk or a server."""


def localize_photos(
    plan: FilmPlan, segments: Sequence[Segment], *, settings: Settings, store: SegmentStore
) -> FilmPlan:
    """Return the plan with files of this machine for the photos of these segments.

    A local photo that is gone or changed, and of which the store has no copy, keeps its path: decoding it raises the
    error. A plan is trusted no more than a job: nothing outside of the host's roots is read, and a photo is identified
    by its digest, not by its location.

    Args:
        plan: The film.
        segments: The segments that are to be rendered here.
        settings: Say what this host's jobs may read.
        store: May have copies of photos that cannot be read at their location.

    Raises:
        NotAllowedError: A photo lies outside of the host's roots, and the store has no copy.
        PhotoChangedError: A photo is not the one that was planned, or is gone.
        MediaError: A photo cannot be used.
        StorageError: A photo cannot be read or downloaded for now.
    """
    digests = _digests_of(plan, segments)
    with ThreadPoolExecutor(READERS) as pool:
        paths = pool.map(lambda digest: str(_find(digest, plan.photo_paths[digest], settings, store)), digests)
        found: Mapping[str, str] = dict(zip(digests, paths, strict=True))
    return replace(plan, photo_paths={**plan.photo_paths, **found})


def share_photos(plan: FilmPlan, *, settings: Settings, store: SegmentStore) -> None:
    """Copy to the store the photos that other machines may not be able to read: those of this machine and of the web.

    A photo on the web may change, and its URL, if it was signed, expires. Photos in S3 stay where they are.

    Raises:
        PhotoChangedError: A photo is not the one that was planned, or is gone.
        StorageError: A photo cannot be copied.
    """
    digests = [digest for digest, location in plan.photo_paths.items() if scheme_of(location) != "s3"]

    def share(digest: str) -> None:
        location = plan.photo_paths[digest]
        path = _find(digest, location, settings, store)
        if not _is_photo(path, digest):
            raise PhotoChangedError(
                f"{shown_location(location)}: gone or changed since the film was planned; run the same command again"
            )
        store.put_photo(digest, path)

    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(share, digests))


def _digests_of(plan: FilmPlan, segments: Iterable[Segment]) -> list[str]:
    clips = (clip for part in segments for clip in plan.timeline.clips_between(part.start_frame, part.end_frame))
    return list(dict.fromkeys(digest for clip in clips for digest in clip.content.source_digests))


def _find(digest: str, location: str, settings: Settings, store: SegmentStore) -> Path:
    """Return a file that holds a photo: the local one, a copy that is kept here or in the store, or a new download.

    If a local photo is neither there nor in the store, its path is returned: reading it raises the error.
    """
    downloads, is_local = Downloads(settings), not scheme_of(location)
    refused: NotAllowedError | None = None
    try:
        check_allowed(location, settings=settings)
        # The path that was checked: a link may lead elsewhere a moment later.
        path = Path(os.path.realpath(location) if is_local and settings.roots else location)
        if is_local and _is_photo(path, digest):
            return path
    except NotAllowedError as error:
        refused = error
    kept = downloads.find(digest) or store.local_photo(digest)
    if kept is not None:
        return kept
    if refused is not None:
        raise refused
    if is_local:
        return Path(location)
    path = downloads.fetch(location)
    if not _is_photo(path, digest):
        raise PhotoChangedError(
            f"{shown_location(location)}: changed since the film was planned; run the same command again"
        )
    return path


def _is_photo(path: Path, digest: str) -> bool:
    try:
        return path.is_file() and file_digest(path) == digest
    except OSError:
        return False
