"""Render: one encoder session makes the segments of one shard."""

from __future__ import annotations

import time

from prefect import State, get_run_logger, task
from prefect.states import Cancelled

from fanreel.errors import FanreelError
from fanreel.plan.shards import Shard
from fanreel.render.film_run import FilmStoppedError
from tasks.planned_film import PlannedFilm
from tasks.retries import ONCE, past_retries, state_after
from tasks.watch import film_run

__all__ = ["render"]


@task(name="render", task_run_name="render {shard.label} of {film.name}", **ONCE)
def render(shard: Shard, film: PlannedFilm) -> tuple[str, ...] | State[tuple[str, ...]]:
    """Return the addresses of the shard's segments, each in the store; `Cancelled` if the flow run ends before.

    What is worth another try, by the table of policies, is tried again after a wait: see `state_after`.

    The session's limits are taken here, in the body: a limit by task tag would keep its slot while the run
    waits for its retry, and any tag makes Prefect ask the server before each run whether it has a limit.
    """
    started_at = time.monotonic()
    try:
        addresses = film_run(film).render(shard, retries=past_retries())
    except FilmStoppedError as stopping:
        return Cancelled(message=str(stopping))
    except FanreelError as error:
        return state_after(error)
    get_run_logger().info("%s: %d frames in %.1f s", shard.label, shard.frame_count, time.monotonic() - started_at)
    return addresses
