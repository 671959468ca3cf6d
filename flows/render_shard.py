"""The flow `render-shard`: one encoder session makes a shard of a film, on the machine of a pool's worker.

The flow of a film whose job names pools starts it. `prefect.yaml` deploys it once for each pool, under the pool's name.
"""

from __future__ import annotations

from prefect import flow, unmapped

from fanreel.dispatch.pools import DeviceKind
from tasks.child_runs import label_if_refused
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
    """Make the segments of a shard that the store lacks.

    Args:
        plan: Address of the film's plan in the store.
        start_segment: Index of the shard's first segment.
        end_segment: Index past its last segment.
        device: What to encode with; the deployment sets it.
        encoders: Encoders whose segments the film may have; those that its job allows if left out.
        because: What went wrong with the segments before, and in which pool; their records keep it.
    """
    with watch_flow(), label_if_refused():
        film = pick_up(plan, start_segment, end_segment, device=device, encoders=encoders or [], because=because)
        render.map(film.order.shards, film=unmapped(film)).result()
