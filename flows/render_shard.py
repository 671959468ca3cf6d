"""The flow `render-shard`: one encoder session makes a run of a film's segments, on the machine of a pool's worker.

A film's own flow starts it, where its job names pools; people have no need to. `prefect.yaml` deploys it, for each pool
under the pool's name.
"""

from __future__ import annotations

from prefect import flow, unmapped

from fanreel.dispatch.pools import DeviceKind
from tasks.pick_up import pick_up
from tasks.render import render
from tasks.runner import HOST_TASK_RUNNER
from tasks.watch import watch_flow

__all__ = ["render_shard"]


@flow(name="render-shard", task_runner=HOST_TASK_RUNNER, persist_result=False)
def render_shard(
    plan: str,
    start_segment: int,
    end_segment: int,
    device: DeviceKind = DeviceKind.CPU,
    encoders: list[str] | None = None,
    because: str = "",
) -> None:
    """Make those of a film's segments that the store lacks.

    Args:
        plan: Address of the film's plan in the store.
        start_segment: Index of the first of its segments.
        end_segment: Index past the last one.
        device: What to encode with: of the deployment.
        encoders: Whose segments the film may have; what its job allows if left out.
        because: What went wrong with them before, and where; stands in the segments' records.
    """
    with watch_flow():
        film = pick_up(plan, start_segment, end_segment, device=device, encoders=encoders or [], because=because)
        render.map(film.order.shards, film=unmapped(film)).result()
