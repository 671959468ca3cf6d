"""A film's manifest in the store, kept up to date: the film is in work, or it is published."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from fanreel.errors import StorageError
from fanreel.plan.film import FilmPlan, plan_digest
from fanreel.store.manifest import manifest_of
from fanreel.store.segment_store import SegmentStore

__all__ = ["begin_film", "mark_published"]

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
