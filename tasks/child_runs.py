"""The child runs of one film, as the Prefect server has them: listed, started, told to end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any
from uuid import UUID

from httpx import HTTPError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun, State, StateType, WorkerStatus
from prefect.client.schemas.sorting import FlowRunSort
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Cancelling

from fanreel.dispatch.children import Child, Phase, Pool, SegmentRun, Start
from fanreel.dispatch.pools import DeviceKind, MeasuredSpeed
from fanreel.errors import InvalidJobError, MediaError, RequestError
from fanreel.host.calibration import calibration_from_json, calibration_speeds

__all__ = ["SHARD_FLOW", "ChildRuns", "label_if_refused", "read_pool_devices", "read_speeds"]

SHARD_FLOW = "render-shard"
"""The flow that renders a shard; it has a deployment for each pool, named after the pool."""

PAGE = 200
"""The most flow runs that the server lists at a time."""

POOL_LOOK_SECONDS = 10.0
"""How often pools are read; workers are seen to come and go by their heartbeats of 30 s."""

SETTLE_SECONDS = 3.0
"""How long a crash does not count: a worker that ends puts its runs back within a second of their end."""

_PHASES: Mapping[StateType, Phase] = {
    StateType.SCHEDULED: Phase.WAITING,
    StateType.PAUSED: Phase.WAITING,
    StateType.PENDING: Phase.TAKEN,
    StateType.RUNNING: Phase.RUNNING,
    StateType.CANCELLING: Phase.LEAVING,
    StateType.COMPLETED: Phase.DONE,
}

_REFUSED = "fanreel.refused"
"""Label of a child run whose job or photos would be refused on every machine."""

LONGEST_REASON = 300


class ChildRuns:
    """The child runs of one film on one server.

    Args:
        film: The address of the film's plan; children are tagged with its beginning.
        name: The film's file name.
        parameters: Parameters of every child, without its segments.
        speeds: Frames a second that one child of each pool is estimated to make; the preferred pool first.
    """

    def __init__(self, film: str, *, name: str, parameters: Mapping[str, Any], speeds: Mapping[str, float]) -> None:
        self.tag = f"film:{film[:16]}"
        self._film, self._name, self._parameters, self._speeds = film, name, parameters, speeds
        self._crashed_at: dict[str, float] = {}
        self._pools: list[Pool] = []
        self._looked_at = 0.0

    def list(self) -> list[Child]:
        """Return all children that the film ever had, the newest first."""
        with get_client(sync_client=True) as client:
            return [self._settle(child, run) for run in self._runs(client) if (child := _child(run)) is not None]

    def start(self, start: Start) -> Child:
        """Start a child, or return the same one, if another parent of the film has just started it."""
        run = start.segments
        key = f"{self._film}:{run.start}-{run.end}:{start.number}"
        last = run.end - 1
        made = run_deployment(
            f"{SHARD_FLOW}/{start.pool}",
            parameters={
                **self._parameters,
                "start_segment": run.start,
                "end_segment": run.end,
                "because": start.because[:LONGEST_REASON],
            },
            flow_run_name=f"{self._name} {run.start}" + (f"-{last}" if last > run.start else ""),
            timeout=0,
            tags=[self.tag],
            idempotency_key=key,
        )
        assert isinstance(made, FlowRun)  # noqa: S101 -- called from a thread without a loop
        return _child(made) or Child(str(made.id), start.pool, run, Phase.WAITING, number=start.number)

    def cancel(self, child: Child, reason: str) -> None:
        """Tell a child to end. One that no worker has taken is ended by force: no worker would end it."""
        state = Cancelled if child.phase is Phase.WAITING else Cancelling
        with get_client(sync_client=True) as client:
            try:
                client.set_flow_run_state(UUID(child.key), state(message=reason), force=state is Cancelled)
            except ObjectNotFound:
                return

    def pools(self) -> list[Pool]:
        """Return the pools as the server shows them, looked at a few times a minute."""
        if not self._pools or time.monotonic() - self._looked_at > POOL_LOOK_SECONDS:
            with get_client(sync_client=True) as client:
                self._pools = [Pool(name, _count_workers(client, name), fps) for name, fps in self._speeds.items()]
            self._looked_at = time.monotonic()
        return self._pools

    def _settle(self, child: Child, run: FlowRun) -> Child:
        """Return a child that has just crashed as one that leaves: its worker may put it back into its queue."""
        if run.state_type is not StateType.CRASHED:
            self._crashed_at.pop(child.key, None)
            return child
        since = self._crashed_at.setdefault(child.key, time.monotonic())
        return replace(child, phase=Phase.LEAVING) if time.monotonic() - since < SETTLE_SECONDS else child

    def _runs(self, client: SyncPrefectClient) -> Iterator[FlowRun]:
        tagged = FlowRunFilter(tags=FlowRunFilterTags(all_=[self.tag]))
        for offset in range(0, 100 * PAGE, PAGE):
            page = client.read_flow_runs(
                flow_run_filter=tagged, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=PAGE, offset=offset
            )
            yield from page
            if len(page) < PAGE:
                return


@contextmanager
def label_if_refused() -> Iterator[None]:
    """Label the flow run whose body this context is, if its job or photos are at fault: its film then fails at once.

    The error is raised on. A label that cannot be set costs tries in other pools.
    """
    try:
        yield
    except (RequestError, MediaError):
        with suppress(HTTPError, PrefectException), get_client(sync_client=True) as client:
            client.update_flow_run_labels(UUID(flow_run.id), {_REFUSED: True})
        raise


def read_pool_devices(pools: Iterable[str]) -> dict[str, DeviceKind]:
    """Return what the workers of each pool encode with, as the pool's deployment of the shards' flow says.

    Raises:
        InvalidJobError: There is no server, or no such deployment on it.
    """
    if not PREFECT_API_URL.value():
        raise InvalidJobError("render_on: pools are those of a Prefect server: set PREFECT_API_URL, or render_on: here")
    devices: dict[str, DeviceKind] = {}
    with get_client(sync_client=True) as client:
        for pool in pools:
            try:
                deployment = client.read_deployment_by_name(f"{SHARD_FLOW}/{pool}")
            except ObjectNotFound:
                raise InvalidJobError(
                    f"render_on: {pool!r} is not allowed; the server has no deployment {SHARD_FLOW}/{pool}: "
                    "python -m deployments.apply makes those of prefect.yaml"
                ) from None
            devices[pool] = DeviceKind(deployment.parameters.get("device", DeviceKind.CPU))
    return devices


def read_speeds() -> list[MeasuredSpeed]:
    """Return the speed of one session on each calibrated host, from the hosts' Prefect Variables."""
    with get_client(sync_client=True) as client:
        variables = client.read_variables(limit=PAGE)
    speeds: list[MeasuredSpeed] = []
    for variable in variables:
        if variable.name.startswith("calibration_"):
            try:
                speeds += calibration_speeds(calibration_from_json(json.dumps(variable.value).encode()))
            except ValueError:
                continue  # of another version; the film's own children will show their speed soon
    return speeds


def _count_workers(client: SyncPrefectClient, pool: str) -> int:
    """Return how many workers of a pool are online; none while it is paused, or where there is no such pool."""
    try:
        if client.read_work_pool(pool).is_paused:
            return 0
        workers = client.read_workers_for_work_pool(pool)
    except ObjectNotFound:
        return 0
    return sum(worker.status is WorkerStatus.ONLINE for worker in workers)


def _child(run: FlowRun) -> Child | None:
    """Return a flow run as a child; None if it is no child: people may give their runs any tag."""
    start, end = run.parameters.get("start_segment"), run.parameters.get("end_segment")
    if not isinstance(start, int) or not isinstance(end, int) or run.state is None:
        return None
    phase = _PHASES.get(run.state.type, Phase.FAILED)
    reason = _reason(run.state) if phase is Phase.FAILED else ""
    return Child(
        str(run.id),
        run.work_pool_name or "",
        SegmentRun(start, end),
        phase,
        reason,
        is_hopeless=_REFUSED in run.labels,
        number=_number(run.idempotency_key or ""),
    )


def _number(key: str) -> int:
    """Return the number in the key that a child was started with; -1 if people started it."""
    number = key.rpartition(":")[2]
    return int(number) if number.isdecimal() else -1


def _reason(state: State[Any]) -> str:
    said = " ".join((state.message or "").split()).removeprefix("Flow run encountered an exception: ")
    return f"{state.name}: {said}"[:LONGEST_REASON] if said else str(state.name)
