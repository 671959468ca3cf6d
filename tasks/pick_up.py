"""Pick up: a run of a film's segments, on the machine that is to make them."""

from __future__ import annotations

import time

from prefect import get_run_logger, task

from fanreel.dispatch.children import SegmentRun
from fanreel.dispatch.pools import DeviceKind
from fanreel.host.host import current_host
from fanreel.render.order import order_run
from tasks.planned_film import PlannedFilm
from tasks.retries import RETRIED
from tasks.watch import film_run

__all__ = ["pick_up"]


@task(name="pick up", **RETRIED)
def pick_up(
    plan: str, start_segment: int, end_segment: int, *, device: DeviceKind, encoders: list[str], because: str
) -> PlannedFilm:
    """Return what of a run of segments this machine has to make. The session launcher is warmed meanwhile."""
    host = current_host()
    host.launcher.warm()
    film = host.store.get_plan(plan)
    run = SegmentRun(start_segment, end_segment)
    order = order_run(film, run, device=device, encoders=encoders, host=host)
    planned = PlannedFilm(film.name, plan, order, time.time(), because)
    get_run_logger().info(
        "%s: segments %d-%d with %s; %d to render, %d are there",
        film.name,
        start_segment,
        end_segment - 1,
        " or ".join(order.encoders),
        order.segment_count,
        order.reused,
    )
    film_run(planned)
    return planned
