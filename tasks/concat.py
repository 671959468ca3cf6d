"""Concat: join the segments and prove the film."""

from __future__ import annotations

from dataclasses import replace

from prefect import get_run_logger, task
from prefect.runtime import task_run

from fanreel.dispatch.pools import PoolChoice
from fanreel.host.host import current_host
from fanreel.plan.film import FilmPlan
from fanreel.render.film import Draft, join_film
from fanreel.render.order import order_in_pools, order_render
from fanreel.render.shard import render_shard
from tasks.dispatch import render_on_pools
from tasks.planned_film import PlannedFilm
from tasks.retries import RETRIED
from tasks.watch import watch_film

__all__ = ["concat"]


@task(name="concat", task_run_name="concat {film.name}", **RETRIED)
def concat(film: PlannedFilm) -> Draft:
    """Return the film, joined and verified from disk. What the store lost meanwhile is made again on a retry."""
    host = current_host()
    watch_film(film).finish()
    plan = host.store.get_plan(film.plan)
    if (task_run.run_count or 1) > 1:
        _render_again(plan, film)
    draft = join_film(plan, host=host, encoders=film.order.encoders)
    get_run_logger().log(draft.join.log_level, "%s: %s; verified", film.name, draft.join)
    return draft


def _render_again(plan: FilmPlan, film: PlannedFilm) -> None:
    host, watch = current_host(), watch_film(film)
    if film.order.pools:
        order = order_in_pools(plan, PoolChoice(film.order.pools, film.order.encoders, ()), host=host)
        for shard in order.shards:
            get_run_logger().warning("%s: %s is no longer in the store and is made again", film.name, shard.label)
        render_on_pools(replace(film, order=order))
        return
    for shard in order_render(plan, host=host).shards:
        get_run_logger().warning("%s: %s is no longer in the store and is made again", film.name, shard.label)
        render_shard(
            plan,
            shard,
            threads=film.order.sessions.threads,
            host=host,
            encoders=film.order.encoders,
            watch=watch.shards(),
        )
