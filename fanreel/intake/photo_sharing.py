"""Where a film's photos are, as seen from the machine that reads them."""

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
"""Photos looked for side by side; most of it is waiting for a disk or a server."""


def localize_photos(
    plan: FilmPlan, segments: Sequence[Segment], *, settings: Settings, store: SegmentStore
) -> FilmPlan:
    """Return the plan with files of this machine for the photos of these segments.

    Each one is what was planned, or a local one that is gone or changed, which who reads it finds out.
    What a plan says of locations is believed no more than a job is: outside of the host's roots nothing is read, and
    a photo's digest, not its location, says what it is.

    Args:
        plan: The film.
        segments: Those that are to be made here.
        settings: Say what this host's jobs may read.
        store: May have the photos that cannot be read where the plan says.

    Raises:
        NotAllowedError: A photo is where this host's jobs may not read, and the store has it not.
        PhotoChangedError: A photo is not the one that was planned, or is gone.
        MediaError: A photo cannot be used.
        StorageError: A photo cannot be had for now.
    """
    digests = _digests_of(plan, segments)
    with ThreadPoolExecutor(READERS) as pool:
        paths = pool.map(lambda digest: str(_find(digest, plan.photo_paths[digest], settings, store)), digests)
        found: Mapping[str, str] = dict(zip(digests, paths, strict=True))
    return replace(plan, photo_paths={**plan.photo_paths, **found})


def share_photos(plan: FilmPlan, *, settings: Settings, store: SegmentStore) -> None:
    """Keep in the store what other machines cannot read themselves: photos of this machine and of the web.

    A photo of the web might be another one by then, and its address, if it was signed, no longer be valid. What is in
    S3 is left there.

    Raises:
        PhotoChangedError: A photo is not the one that was planned, or is gone.
        StorageError: One cannot be kept.
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
    """Return a file that holds a photo: its own, one from the store, or one from afar, in this order.

    A local one that is neither there nor in the store is returned as it is: who reads it finds out what is wrong.
    """
    downloads, is_local = Downloads(settings), not scheme_of(location)
    refused: NotAllowedError | None = None
    try:
        check_allowed(location, settings=settings)
        # As it was checked: a link may lead elsewhere a moment later.
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
