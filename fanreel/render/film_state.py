"""A film's manifest in the store, kept up to date: the film is in work, stopped, or published."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import replace

from fanreel.errors import StorageError
from fanreel.plan.film import FilmPlan, plan_digest
from fanreel.store.manifest import manifest_of
from fanreel.store.segment_store import SegmentStore

__all__ = ["begin_film", "mark_published", "mark_stopped"]

log = logging.getLogger(__name__)


def begin_film(store: SegmentStore, plan: FilmPlan) -> None:
    """Note that a film is in work, before its first segment is looked for; from then on all it needs stays."""
    store.put_manifest(manifest_of(plan, begun_at=time.time()))


def mark_published(store: SegmentStore, plan: FilmPlan) -> None:
    """Note that a film is published: what it named may go when nothing has used it for long.

    The film is there, so it does not fail if the note cannot be written: what it needed stays longer, and a warning
    says so.
    """
    now = time.time()
    try:
        begun = store.get_manifest(plan_digest(plan)) or manifest_of(plan, begun_at=now)
        store.put_manifest(replace(begun, published_at=now))
    except StorageError as error:
        log.warning("%s is published, but what it needed is kept for a week: %s", plan.name, error)


def mark_stopped(store: SegmentStore, plan: FilmPlan) -> None:
    """Note that a run has ended without publishing a film, so that nobody takes it for one in work."""
    with contextlib.suppress(StorageError):  # the error that ended the run is told
        begun = store.get_manifest(plan_digest(plan))
        if begun is not None and not begun.published_at:
            store.put_manifest(replace(begun, stopped_at=time.time()))
