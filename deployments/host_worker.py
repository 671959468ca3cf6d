"""Prefect's process worker, with three more abilities: it hands runs back, waits for the server, and leaves when idle.

Told to end, Prefect's own worker leaves its runs at work. On a host that is about to vanish they are lost, and stay
"Running" on the server. This worker ends them at once and puts them back into their queue, where another worker finds
them; the segments that they have rendered are in the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import sys
import threading
import time
from abc import ABC
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from httpx import HTTPError, HTTPStatusError, TransportError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import PrefectException
from prefect.states import AwaitingRetry, Cancelled
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker, ProcessWorkerResult

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.schemas.objects import FlowRun

__all__ = ["HostWorker", "configuration_with"]

HAND_BACK_SECONDS = 20.0
"""How long the hand-back may take. A cloud host vanishes two minutes after its notice; a container is killed ten
seconds after SIGTERM unless it is given more."""

ANSWER_SECONDS = 5.0
"""How long the server may take to answer while runs are handed back."""

AWAY_SECONDS = 600.0
"""How long the report of a failed run waits for a server that is away."""


class HostWorker(ProcessWorker, ABC):  # abstract for Prefect: it registers no other worker of the type "process"
    """A worker of the type "process" whose runs survive the end of their host.

    Args:
        idle_seconds: The worker ends when it had no run for so long; 0 is never.
        before_end: Called before the worker ends this process, by SIGTERM or idle.
        engine_command: Returns the command that starts a run; by default Prefect's own way is taken.
        words: Arguments of Prefect's `ProcessWorker`.
    """

    def __init__(
        self,
        *,
        idle_seconds: float,
        before_end: Callable[[], None],
        engine_command: Callable[[], list[str]] | None = None,
        **words: Any,  # noqa: ANN401 -- Prefect's own
    ) -> None:
        super().__init__(**words)
        self._idle_seconds = idle_seconds
        self._before_end = before_end
        if engine_command is not None:
            self.job_configuration = configuration_with(engine_command)
        self._held: dict[UUID, FlowRun] = {}
        self._last_held_at = time.monotonic()

    async def run(self, flow_run: FlowRun, configuration: Any, task_status: Any = None) -> ProcessWorkerResult:  # noqa: ANN401
        """Run a flow run; if it fails while the server is away, return when the failure can be reported."""
        self._held[flow_run.id] = flow_run
        try:
            result = await super().run(flow_run, configuration, task_status)
            if result.status_code != 0:
                await _await_server(flow_run)
            return result
        finally:
            self._held.pop(flow_run.id, None)  # a run that was put back may have come again meanwhile
            self._last_held_at = time.monotonic()

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Take what is scheduled; end this process if there was nothing for `idle_seconds`."""
        taken = await super().get_and_submit_flow_runs()
        idle_seconds = time.monotonic() - self._last_held_at
        if self._idle_seconds and not taken and not self._held and idle_seconds >= self._idle_seconds:
            _say(f"nothing to do for {idle_seconds:.0f} s: this worker ends")
            self._end()
        return taken

    def leave(self) -> None:
        """Kill every run, put each back into its queue, and end this process; the handler of SIGTERM.

        It returns to nobody, so Prefect's worker has no time to report the killed runs as crashed: a film would
        start another child run for each before the first is back in its queue.
        """
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)  # the next SIGTERM kills this process
        overdue = threading.Timer(HAND_BACK_SECONDS, os._exit, [0])
        overdue.daemon = True
        overdue.start()
        _say(f"SIGTERM: {len(self._held)} runs are handed back, then this worker ends")
        try:
            _kill_below(os.getpid())
            with get_client(sync_client=True, httpx_settings={"timeout": ANSWER_SECONDS}) as client:
                for flow_run in self._held.values():
                    _hand_back(client, flow_run, worker_name=self.name)
        finally:
            self._end()

    def _end(self) -> None:
        try:
            self._before_end()
            sys.stdout.flush()
        finally:
            os._exit(0)  # Prefect's orderly end waits for runs, and was seen to hang


def configuration_with(engine_command: Callable[[], list[str]]) -> type[ProcessJobConfiguration]:
    """Return a configuration of jobs that starts a run with a command of ours, where its deployment allows it.

    A deployment that names a command keeps it. One that sets a variable of somebody else is started Prefect's own way:
    packages read such variables (`OMP_NUM_THREADS`) when they are imported, and a fork has imported them already.
    """

    class Configuration(ProcessJobConfiguration):
        def prepare_for_flow_run(self, *arguments: Any, **words: Any) -> None:  # noqa: ANN401 -- Prefect's own
            if not self.command and all(name.startswith(("FANREEL_", "PREFECT_")) for name in self.env):
                self.command = shlex.join(engine_command())
            super().prepare_for_flow_run(*arguments, **words)

    return Configuration


async def _await_server(flow_run: FlowRun) -> None:
    """Return when the server answers: otherwise it would learn of a failed run minutes later, by missing beats."""
    deadline = time.monotonic() + AWAY_SECONDS
    while time.monotonic() < deadline:
        try:
            async with get_client() as client:
                await client.read_flow_run(flow_run.id)
                return
        except HTTPStatusError as error:
            if not error.response.is_server_error:
                return
        except TransportError:
            pass
        except PrefectException:
            return
        await asyncio.sleep(1.0)


def _hand_back(client: SyncPrefectClient, flow_run: FlowRun, *, worker_name: str) -> None:
    """Put a killed run back into its queue; a run that ended by itself just before stays as it is."""
    # Never later than it was due at first: with a clock that is ahead, the run would wait for as long.
    due_at = min(flow_run.expected_start_time or datetime.max.replace(tzinfo=UTC), datetime.now(UTC))
    state = AwaitingRetry(scheduled_time=due_at, message=f"handed back: its worker {worker_name} has to end")
    try:
        found = client.read_flow_run(flow_run.id).state
        if found is not None and found.is_cancelling():
            state = Cancelled(message="cancelled; its worker had to end")
        # One that was told to end with its worker has reported a crash.
        if found is None or any((found.is_running(), found.is_pending(), found.is_cancelling(), found.is_crashed())):
            client.set_flow_run_state(flow_run.id, state, force=True)
    except (HTTPError, PrefectException) as error:
        _say(f"{flow_run.name} could not be handed back: {error}")


def _kill_below(pid: int) -> None:
    """Kill every process that descends from `pid`, each before its children: it must not report how they ended."""
    while below := _live_below(pid):
        for child in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        time.sleep(0.01)  # another round finds those that were forked meanwhile


def _live_below(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state not in "ZX":
                children.setdefault(int(parent), []).append(int(stat.parent.name))
    below = children.get(pid, [])
    for child in below:  # it grows meanwhile
        below += children.get(child, [])
    return below


def _say(message: str) -> None:
    print(f"fanreel: {message}", file=sys.stderr, flush=True)
