"""Plan: from photos to films, segments and shards."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from prefect import get_run_logger, task

from fanreel.job import SlideshowJob
from fanreel.media.film import destination_of
from fanreel.media.host import current_host
from fanreel.media.render import RenderOrder, order_render
from fanreel.media.sources import output_path
from fanreel.plan.film import Still, plan_films

__all__ = ["PlannedFilm", "plan"]


@dataclass(frozen=True, slots=True)
class PlannedFilm:
    """A film that is planned; small, so that it can travel.

    Attributes:
        name: Its file name.
        plan: Address of its plan in the store.
        order: What has to be rendered.
        planned_at: Unix time.
    """

    name: str
    plan: str
    order: RenderOrder
    planned_at: float


@task(name="plan", task_run_name="plan {job.output}")
def plan(job: SlideshowJob, stills: Sequence[Still]) -> list[PlannedFilm]:
    """Return the films of a job, each with the shards that the store lacks."""
    host = current_host()
    films = []
    for film in plan_films(job, stills, output=str(output_path(job))):
        destination_of(film).check()
        order = order_render(film, host=host)
        missing = sum(len(shard.segments) for shard in order.shards)
        get_run_logger().info(
            "%s: %.1f s; %d segments to render in %d shards, %d reused; %s",
            film.name,
            film.seconds,
            missing,
            len(order.shards),
            order.reused,
            order.sessions.reason,
        )
        films.append(PlannedFilm(film.name, host.store.put_plan(film), order, time.time()))
    return films
