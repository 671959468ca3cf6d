"""Concat: join the segments and prove the film."""

from __future__ import annotations

from dataclasses import replace

from prefect import get_run_logger, task

from fanreel.render.draft import Draft
from fanreel.render.order import RenderOrder
from tasks.dispatch import render_on_pools
from tasks.planned_film import PlannedFilm
from tasks.retries import RETRIED, past_retries
from tasks.watch import film_run

__all__ = ["concat"]


@task(name="concat", task_run_name="concat {film.name}", **RETRIED)
def concat(film: PlannedFilm) -> Draft:
    """Return the film, joined and verified from disk. What the store has lost meanwhile is made again on a retry."""
    run = film_run(film)
    run.finish_rendering()

    def render(order: RenderOrder) -> None:
        if order.pools:
            render_on_pools(replace(film, order=order))
        else:
            for shard in order.shards:
                run.render(shard)

    if past_retries():
        run.repair(render)
    draft = run.join()
    get_run_logger().log(draft.join.log_level, "%s: %s; verified", film.name, draft.join)
    return draft
