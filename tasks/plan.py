"""Plan: from photos to films, segments and shards."""

from __future__ import annotations

import time
from collections.abc import Mapping

from prefect import get_run_logger, task

from fanreel.job import SlideshowJob
from fanreel.media.film import destination_of
from fanreel.media.host import current_host
from fanreel.media.manifest import begin_film
from fanreel.media.photo_places import share_photos
from fanreel.media.render_order import RenderOrder, order_in_pools, order_render
from fanreel.media.sources import output_place
from fanreel.plan.film import FetchedStills, FilmPlan, plan_films
from fanreel.plan.pools import DeviceKind, choose_pools
from tasks.child_runs import read_pool_devices
from tasks.names import name_task_run
from tasks.planned_film import PlannedFilm
from tasks.retries import RETRIED
from tasks.watch import watch_film

__all__ = ["plan"]


@task(name="plan", task_run_name=name_task_run("plan"), **RETRIED)
def plan(job: SlideshowJob, fetched: FetchedStills) -> list[PlannedFilm]:
    """Return the films of a job, each with the shards that the store lacks."""
    output = output_place(job, settings=current_host().settings)
    films = plan_films(job, fetched.stills, output=output, left_out=fetched.left_out)
    devices = read_pool_devices(job.pools) if job.pools else {}
    return [_order(film, devices) for film in films]


def _order(film: FilmPlan, devices: Mapping[str, DeviceKind]) -> PlannedFilm:
    host, log = current_host(), get_run_logger()
    destination_of(film, settings=host.settings).check()
    begin_film(host.store, film)
    order = _order_in_pools(film, devices) if devices else order_render(film, host=host)
    planned = PlannedFilm(film.name, host.store.put_plan(film), order, time.time())
    log.info(
        "%s: %.1f s; %d segments to render%s, %d reused; %s",
        film.name,
        film.seconds,
        order.segment_count,
        "" if devices else f" in {len(order.shards)} shards",
        order.reused,
        order.sessions.reason,
    )
    watch_film(planned).begin()
    return planned


def _order_in_pools(film: FilmPlan, devices: Mapping[str, DeviceKind]) -> RenderOrder:
    choice = choose_pools(film.encoding, devices)
    for pool in choice.left_out:
        get_run_logger().warning("%s: the pool %s has no encoder that this film may have", film.name, pool)
    host = current_host()
    if host.settings.remote_store:
        share_photos(film, host)  # a store in a folder that machines mount means that they mount the photos too
    return order_in_pools(film, choice, host=host)
