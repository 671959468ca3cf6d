"""Concat: join the segments and prove the film."""

from __future__ import annotations

from prefect import get_run_logger, task

from fanreel.media.film import Draft, join_film
from fanreel.media.host import current_host
from tasks.planned_film import PlannedFilm
from tasks.retries import ONCE
from tasks.watch import watch_film

__all__ = ["concat"]


@task(name="concat", task_run_name="concat {film.name}", **ONCE)
def concat(film: PlannedFilm) -> Draft:
    """Return the film, joined and verified from disk; every segment is in the store."""
    watch_film(film).finish()
    host = current_host()
    draft = join_film(host.store.get_plan(film.plan), host=host)
    get_run_logger().info(
        "%s: joined %.1f MB in %.2f s; verified", film.name, draft.size_bytes / 1e6, draft.join_seconds
    )
    return draft
