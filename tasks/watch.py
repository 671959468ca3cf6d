"""Watching a film: its progress for the log and the UI, and the job's own bound on sessions."""

from __future__ import annotations

import logging
import threading
import time
from functools import lru_cache
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from fanreel.media.host import current_host
from fanreel.progress import Progress
from tasks.plan import PlannedFilm

__all__ = ["FilmWatch", "watch_film"]

REPORT_SECONDS = 5.0


class FilmWatch:
    """What the shards of one film in this process share.

    Args:
        film: The film.
    """

    def __init__(self, film: PlannedFilm) -> None:
        order = film.order
        plan = current_host().store.get_plan(film.plan)
        self.progress = Progress(
            segment_count=len(plan.segments),
            reused=order.reused,
            frames_to_make=sum(shard.frame_count for shard in order.shards),
        )
        self.sessions = threading.BoundedSemaphore(order.sessions.sessions)
        self._lock = threading.Lock()
        self._name = film.name
        self._reported_at = time.monotonic()
        self._artifact: UUID | None = None

    def add_frames(self, count: int) -> None:
        """Note frames; every five seconds tell the log and the UI."""
        self.progress.add_frames(count)
        with self._lock:
            due = time.monotonic() - self._reported_at >= REPORT_SECONDS
            if due:
                self._reported_at = time.monotonic()
        if due:
            self._report(get_run_logger())

    def _report(self, logger: logging.Logger | logging.LoggerAdapter[logging.Logger]) -> None:
        snapshot = self.progress.snapshot()
        logger.info("%s", snapshot)
        percent = 100 * snapshot.frames_made / max(1, snapshot.frames_to_make)
        if self._artifact is None:
            created = create_progress_artifact(percent, description=f"{self._name}: frames rendered")
            self._artifact = created if isinstance(created, UUID) else None
        else:
            update_progress_artifact(self._artifact, percent, description=f"{self._name}: {snapshot}")


@lru_cache(maxsize=64)
def _watch(film: tuple[str, float], planned: PlannedFilm) -> FilmWatch:
    return FilmWatch(planned)


_lock = threading.Lock()


def watch_film(film: PlannedFilm) -> FilmWatch:
    """Return the watch of a film, the same for all of its shards in this process."""
    with _lock:
        return _watch((film.plan, film.planned_at), film)
