"""Plan: from photos to films, segments and shards."""

from __future__ import annotations

from collections.abc import Mapping

from prefect import get_run_logger, task

from fanreel.dispatch.pools import DeviceKind, choose_pools
from fanreel.host.host import current_host
from fanreel.intake.sources import output_location
from fanreel.job.film import FilmJob
from fanreel.plan.film import FilmPlan
from fanreel.plan.kinds import FetchedSources, plan_films
from tasks.child_runs import read_pool_devices
from tasks.names import name_task_run
from tasks.planned_film import PlannedFilm
from tasks.retries import RETRIED
from tasks.watch import begin_run

__all__ = ["plan"]


@task(name="plan", task_run_name=name_task_run("plan"), **RETRIED)
def plan(job: FilmJob, fetched: FetchedSources) -> list[PlannedFilm]:
    """Return the films of a job, each with the shards that the store lacks."""
    output = output_location(job, settings=current_host().settings)
    films = plan_films(job, fetched, output=output)
    devices = read_pool_devices(job.pools) if job.pools else {}
    return [_begin(film, devices) for film in films]


def _begin(film: FilmPlan, devices: Mapping[str, DeviceKind]) -> PlannedFilm:
    log = get_run_logger()
    pools = choose_pools(film.encoding, devices) if devices else None
    for pool in pools.left_out if pools else ():
        log.warning("%s: the pool %s has no encoder that this film may have", film.name, pool)
    run = begin_run(film, pools=pools)
    order = run.order
    log.info(
        "%s: %.1f s; %d segments to render%s, %d reused; %s",
        film.name,
        film.seconds,
        order.segment_count,
        "" if devices else f" in {len(order.shards)} shards",
        order.reused,
        order.sessions.reason,
    )
    return PlannedFilm(film.name, run.host.store.put_plan(film), order, run.begun_at)
