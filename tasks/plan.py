"""Plan: from photos to films, segments and shards."""

from __future__ import annotations

import time
from collections.abc import Mapping

from prefect import get_run_logger, task

from fanreel.dispatch.pools import DeviceKind, choose_pools
from fanreel.host.host import current_host
from fanreel.intake.photo_places import share_photos
from fanreel.intake.sources import output_place
from fanreel.job.slideshow import SlideshowJob
from fanreel.plan.film import FetchedStills, FilmPlan, plan_films
from fanreel.render.film import destination_of
from fanreel.render.film_state import begin_film
from fanreel.render.order import RenderOrder, order_in_pools, order_render
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
        # Machines that mount a store's folder mount the photos too.
        share_photos(film, settings=host.settings, store=host.store)
    return order_in_pools(film, choice, host=host)
