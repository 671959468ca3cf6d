"""Plan: from photos to films, segments and shards."""

from __future__ import annotations

import time

from prefect import get_run_logger, task

from fanreel.job import SlideshowJob
from fanreel.media.film import destination_of
from fanreel.media.host import current_host
from fanreel.media.render_order import order_render
from fanreel.media.sources import output_place
from fanreel.plan.film import FetchedStills, FilmPlan, plan_films
from tasks.names import name_task_run
from tasks.planned_film import PlannedFilm
from tasks.retries import ONCE
from tasks.watch import watch_film

__all__ = ["plan"]


@task(name="plan", task_run_name=name_task_run("plan"), **ONCE)
def plan(job: SlideshowJob, fetched: FetchedStills) -> list[PlannedFilm]:
    """Return the films of a job, each with the shards that the store lacks."""
    output = output_place(job, settings=current_host().settings)
    films = plan_films(job, fetched.stills, output=output, left_out=fetched.left_out)
    return [_order(film) for film in films]


def _order(film: FilmPlan) -> PlannedFilm:
    host = current_host()
    destination_of(film, settings=host.settings).check()
    order = order_render(film, host=host)
    planned = PlannedFilm(film.name, host.store.put_plan(film), order, time.time())
    get_run_logger().info(
        "%s: %.1f s; %d segments to render in %d shards, %d reused; %s",
        film.name,
        film.seconds,
        order.segment_count,
        len(order.shards),
        order.reused,
        order.sessions.reason,
    )
    watch_film(planned).begin()
    return planned
