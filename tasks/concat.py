"""Concat: join the segments and prove the film."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import get_run_logger, task

from fanreel.media.film import Draft, join_film
from fanreel.media.host import current_host
from tasks.plan import PlannedFilm

__all__ = ["concat"]


@task(name="concat", task_run_name="concat {film.name}")
def concat(film: PlannedFilm, rendered: Sequence[tuple[str, ...]]) -> Draft:
    """Return the film, joined and verified from disk. `rendered` says that every shard is done."""
    host = current_host()
    draft = join_film(host.store.get_plan(film.plan), host=host)
    get_run_logger().info(
        "%s: joined %.1f MB in %.2f s after %d shards; verified",
        film.name,
        draft.size_bytes / 1e6,
        draft.join_seconds,
        len(rendered),
    )
    return draft
