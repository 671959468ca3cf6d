"""Render: one encoder session makes the segments of one shard."""

from __future__ import annotations

from prefect import task
from prefect.runtime import task_run

from fanreel.media.host import current_host
from fanreel.media.render import render_shard
from fanreel.plan.shards import Shard
from tasks.plan import PlannedFilm
from tasks.retries import RETRIES
from tasks.watch import watch_film

__all__ = ["render"]


@task(name="render", task_run_name="render {shard.label} of {film.name}", tags=["encoder-session"], **RETRIES)
def render(shard: Shard, film: PlannedFilm) -> tuple[str, ...]:
    """Return the addresses of the shard's segments, each in the store.

    The session's limits are taken here, in the body: a limit by task tag would keep its slot while the run
    waits for its retry. The tag is a label.
    """
    host, watch = current_host(), watch_film(film)
    with watch.sessions:
        return render_shard(
            host.store.get_plan(film.plan),
            shard,
            threads=film.order.sessions.threads,
            host=host,
            retries=max(0, (task_run.run_count or 1) - 1),
            on_frames=watch.add_frames,
            on_segment=lambda record: watch.progress.add_segment(),
        )
