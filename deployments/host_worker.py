"""A Prefect process worker that hands back what it holds when its host goes, and leaves when it has nothing to do.

Prefect's own worker, told to end, lets its runs go on without it: on a host that is about to vanish they are lost, and
stay "Running" for ever. Ours ends them at once and puts them back into their queue, where another worker finds them;
what they have rendered is in the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self
from uuid import UUID

from httpx import HTTPError, HTTPStatusError, TransportError
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.states import AwaitingRetry, Cancelled
from prefect.utilities.processutils import command_to_string
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker, ProcessWorkerResult
from pydantic import PrivateAttr

from deployments.engine_launcher import EngineLauncher
from deployments.start_run import HANDED_BACK

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

__all__ = ["HostWorker"]

HAND_BACK_SECONDS = 20.0
"""How long a worker that leaves waits for its runs to be handed back: cloud hosts go two minutes after they said so,
containers ten seconds after SIGTERM unless they are given more."""

LEAVE_SECONDS = 15.0
"""How long Prefect's worker has to end, once all is handed back: seen to hang, which would keep a host for ever."""

AWAY_SECONDS = 600.0
"""How long a run that failed waits for a server that is away, to be told of."""


class HostJobConfiguration(ProcessJobConfiguration):
    """How a run's process is started: by its engine at once.

    Where no command is configured, Prefect starts an interpreter that prepares the working directory, and then the
    engine in its place, which imports all of it again: 3 s of a core for each run. The engine does both.
    """

    _may_be_forked: bool = PrivateAttr(default=False)

    def prepare_for_flow_run(self, *arguments: Any, **words: Any) -> None:  # noqa: ANN401 -- Prefect's signature
        """Configure it for a run."""
        # Packages read other variables than ours and Prefect's when they are imported, which a fork has done.
        self._may_be_forked = not self.command and all(name.startswith(("FANREEL_", "PREFECT_")) for name in self.env)
        self.command = self.command or command_to_string([sys.executable, "-m", "prefect.engine"])
        super().prepare_for_flow_run(*arguments, **words)

    def fork_from(self, launcher: EngineLauncher) -> None:
        """Have a launcher start the run, if it may."""
        if self._may_be_forked:
            self.command = command_to_string(launcher.command())


# It takes the place of Prefect's own worker of this type, which Prefect warns of.
warnings.filterwarnings("ignore", message="Type 'HostWorker' at .* matches existing registered type")


class HostWorker(ProcessWorker):
    """See the module.

    Attributes:
        idle_seconds: Leave when there was no run for so long; 0 is never.
    """

    type = "process"
    job_configuration = HostJobConfiguration
    idle_seconds: ClassVar[float] = 0.0

    async def __aenter__(self) -> Self:
        """Begin to work; from now on SIGTERM means that the host goes."""
        self._held: set[UUID] = set()
        self._engines = EngineLauncher()
        self._engines.start()  # it imports while this worker asks for runs
        self._is_leaving = False
        self._last_held_at = time.monotonic()
        await super().__aenter__()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._leave)
        return self

    async def __aexit__(self, *exception: Any) -> None:  # noqa: ANN401 -- the protocol's signature
        """End to work."""
        try:
            await super().__aexit__(*exception)
        finally:
            self._engines.close()

    async def run(self, flow_run: FlowRun, configuration: Any, task_status: Any = None) -> ProcessWorkerResult:  # noqa: ANN401
        """Run a flow run; hand it back if the worker leaves before it has ended."""
        self._held.add(flow_run.id)
        try:
            configuration.fork_from(self._engines)
            result = await super().run(flow_run, configuration, task_status)
            if self._is_leaving:
                await self._hand_back(flow_run)
                return ProcessWorkerResult(status_code=0, identifier=result.identifier)
            if result.status_code != 0:
                await self._await_server(flow_run)
            return result
        finally:
            self._held.discard(flow_run.id)
            self._last_held_at = time.monotonic()

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Take what is scheduled; nothing once the worker leaves, which an idle one may do now."""
        if self._is_leaving:
            return []
        taken = await super().get_and_submit_flow_runs()
        idle_seconds = time.monotonic() - self._last_held_at
        if self.idle_seconds and not taken and not self._held and idle_seconds >= self.idle_seconds:
            self._logger.info("Nothing to do for %.0f s: this worker ends", idle_seconds)
            self._is_leaving = True
            self._end()
        return taken

    def _leave(self) -> None:
        """End every run and, when each is handed back, this worker; told a second time, end now."""
        if self._is_leaving:
            os.kill(os.getpid(), signal.SIGKILL)
        self._is_leaving = True
        self._logger.warning("SIGTERM: %d runs are handed back, then this worker ends", len(self._held))
        _end_below(os.getpid())
        self._leaving = asyncio.get_running_loop().create_task(self._end_when_handed_back())

    async def _end_when_handed_back(self) -> None:
        deadline = time.monotonic() + HAND_BACK_SECONDS
        while self._held and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            _end_below(os.getpid())  # one that was being started meanwhile
        self._end()

    def _end(self) -> None:
        """Have Prefect end this worker, or end it without Prefect."""
        last = threading.Timer(LEAVE_SECONDS, self._end_at_once)
        last.daemon = True
        last.start()
        os.kill(os.getpid(), signal.SIGINT)

    def _end_at_once(self) -> None:
        self._logger.warning("Prefect's worker did not end within %g s: this process does", LEAVE_SECONDS)
        os._exit(0)

    async def _await_server(self, flow_run: FlowRun) -> None:
        """Return when the server can be told how a run ended: of what it is not told it knows nothing for minutes.

        Runs that begin while it is away end at once, for they cannot reach it either.
        """
        deadline = time.monotonic() + AWAY_SECONDS
        while time.monotonic() < deadline and not self._is_leaving:
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

    async def _hand_back(self, flow_run: FlowRun) -> None:
        # No later than it was due at first: a host whose clock is ahead would else keep it from all for as long.
        due_at = min(flow_run.expected_start_time or datetime.max.replace(tzinfo=UTC), datetime.now(UTC))
        state = AwaitingRetry(scheduled_time=due_at, message=f"handed back: its worker {self.name} has to end")
        try:
            async with get_client() as client:
                found = (await client.read_flow_run(flow_run.id)).state
                if found is not None and found.is_cancelling():
                    state = Cancelled(message="cancelled; its worker had to end")
                elif found is not None and not (found.is_running() or found.is_pending() or found.is_crashed()):
                    return  # it was done just in time, or waits for something
                await client.set_flow_run_state(flow_run.id, state, force=True)
        except (HTTPError, PrefectException) as error:
            self._logger.warning("%s could not be handed back: %s", flow_run.name, error)


def _end_below(pid: int) -> None:
    """End every process that descends from `pid`: a worker's are its runs, and their sessions end with them.

    What stands for an engine is told why, and first, for else Prefect reports a crash, and the film starts another
    child run before this one is back in its queue.
    """
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    below: list[int] = []
    waiting = [pid]
    while waiting:
        found = children.get(waiting.pop(), [])
        below += found
        waiting += found
    told = [child for child in below if _stands_for_an_engine(child)]
    killed = [child for child in below if child not in told]
    for child, number in [(child, HANDED_BACK) for child in told] + [(child, signal.SIGKILL) for child in killed]:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(child, number)


def _stands_for_an_engine(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"/deployments/start_run.py\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False
