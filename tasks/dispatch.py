"""Dispatch: workers of pools render the segments of a film, in child runs that go on without this process."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TypeVar

from httpx import HTTPError
from prefect import State, get_run_logger, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run
from prefect.states import Cancelled

from fanreel.dispatch.children import Cancel, Child, DispatchRules, Phase, Start
from fanreel.dispatch.dispatcher import Dispatcher
from fanreel.dispatch.pools import expect_fps
from fanreel.errors import FanreelError, StorageAwayError
from fanreel.job.machines import Strategy
from fanreel.plan.film import FilmPlan
from fanreel.render.film_run import FilmRun, FilmStoppedError
from fanreel.render.order import find_present
from fanreel.settings import Settings
from tasks.child_runs import ChildRuns, read_speeds
from tasks.planned_film import PlannedFilm
from tasks.retries import ONCE, failed
from tasks.watch import film_run

__all__ = ["dispatch", "render_on_pools"]

Item = TypeVar("Item")
Result = TypeVar("Result")

TICK_SECONDS = 1.0
"""How often the server is asked for the children: one request for all of them."""

LOOK_SECONDS = 5.0
"""How often the store is asked for the next segment of each running child."""

START_SECONDS = 5.0
"""What a child costs before its first frame: a shard of less work is not worth a child."""

CALLERS = 8
"""Children that are started, or told to end, at the same time: each takes several requests."""

END_SECONDS = 25.0
"""How long a film that ends early waits for its children to end; Prefect kills a cancelled process after 30 s."""


@task(name="dispatch", task_run_name="dispatch {film.name}", **ONCE)
def dispatch(film: PlannedFilm) -> State[None] | None:
    """Return when every segment of the film is in the store; `Cancelled` if the flow run ends before.

    If this process is killed its child runs go on; the same job, run again, adopts them.
    """
    try:
        render_on_pools(film)
    except FilmStoppedError as stopping:
        return Cancelled(message=str(stopping))
    except FanreelError as error:
        return failed(error)
    return None


def render_on_pools(film: PlannedFilm) -> None:
    """Have the pools of a film render the segments that the store lacks; return when all are there.

    Raises:
        FilmStoppedError: The flow run ends; if it was cancelled, its children were told to end too.
        NoWorkerError: No worker took a shard for as long as the host's `wait_seconds`.
        ShardFailedError: A segment failed in every pool.
    """
    dispatching = _Dispatching(film, film_run(film))
    try:
        dispatching.run()
    except FilmStoppedError:
        if not _is_to_go_on():
            dispatching.end_children("the film was cancelled")
        raise
    except FanreelError:
        dispatching.end_children("the film failed")
        raise


class _Dispatching:
    """One film's dispatcher, connected with the server, the store and the film's run."""

    def __init__(self, film: PlannedFilm, run: FilmRun) -> None:
        host = run.host
        self._film, self._run, self._host = film, run, host
        self._plan = run.plan
        missing = [segment.index for shard in film.order.shards for segment in shard.segments]
        self._dispatcher = Dispatcher(
            [segment.frame_count for segment in self._plan.segments], missing, rules=_rules(self._plan, host.settings)
        )
        measured = read_speeds()
        encoding = self._plan.encoding
        self._runs = ChildRuns(
            film.plan,
            name=film.name,
            parameters={"plan": film.plan, "encoders": list(film.order.encoders)},
            speeds={pool: expect_fps(encoding, device, measured) for pool, device in film.order.pools.items()},
        )
        self._log = get_run_logger()
        self._looked_at = -LOOK_SECONDS
        self._silent_since: float | None = None

    def run(self) -> None:
        """Dispatch until all segments are there."""
        while not self._dispatcher.is_done:
            self._run.check()
            try:
                self._tick(time.monotonic())
                self._silent_since = None
            except (HTTPError, PrefectException, StorageAwayError) as error:
                self._note_silence(error)
            if self._dispatcher.failure:
                raise self._dispatcher.failure
            self._run.tell()
            time.sleep(TICK_SECONDS)

    def end_children(self, reason: str) -> None:
        """Tell the living children to end, and wait up to `END_SECONDS` until they have."""
        deadline = time.monotonic() + END_SECONDS
        told: set[str] = set()
        while time.monotonic() < deadline:
            try:
                self._dispatcher.observe(time.monotonic(), self._runs.list())
                living = [child for child in self._dispatcher.living if child.key not in told]
                # Those that wait come first, before a worker takes them.
                living.sort(key=lambda child: child.phase is not Phase.WAITING)
                for call in _call_all(lambda child: self._runs.cancel(child, reason), living):
                    call.result()
                told.update(child.key for child in living)
            except (HTTPError, PrefectException) as error:
                self._log.warning("%s: children could not be told to end: %s", self._film.name, error)
            if not self._dispatcher.living:
                return
            time.sleep(TICK_SECONDS / 2)
        self._log.warning("%s: %d children have not ended yet", self._film.name, len(self._dispatcher.living))

    def _tick(self, now: float) -> None:
        dispatcher = self._dispatcher
        looked_for = dispatcher.observe(now, self._runs.list())
        if looked_for and (now - self._looked_at >= LOOK_SECONDS or dispatcher.has_ended):
            self._looked_at = now
            self._look(now, looked_for)
        self._carry_out(now, dispatcher.decide(now, self._runs.pools()))

    def _look(self, now: float, looked_for: set[int]) -> None:
        """Look for segments in the store, and tell the dispatcher and the film's run which are there."""
        find = partial(find_present, self._plan, encoders=self._film.order.encoders, host=self._host)
        found = self._dispatcher.find_made(looked_for, find)
        self._dispatcher.note_present(now, found)
        self._run.add_stored([self._plan.segments[index] for index in sorted(found)])

    def _carry_out(self, now: float, actions: Sequence[Start | Cancel]) -> None:
        """Carry out what was decided; when all was tried, the first error is raised."""
        calls = _call_all(self._carry_out_one, actions)
        for call in calls:
            if call.exception() is None and (child := call.result()) is not None:
                self._dispatcher.note_started(now, child)
        for call in calls:
            call.result()

    def _carry_out_one(self, action: Start | Cancel) -> Child | None:
        """Carry out one action; return the child that it started, if it starts one."""
        if isinstance(action, Cancel):
            told = (self._film.name, action.child.segments, action.child.pool, action.reason)
            self._log.warning("%s: %s is told to end on %s: %s", *told)
            self._runs.cancel(action.child, action.reason)
            return None
        child = self._runs.start(action)
        why = f", because of {action.because}" if action.because else ""
        level = logging.WARNING if action.because else logging.INFO
        self._log.log(level, "%s: %s to %s%s", self._film.name, action.segments, action.pool, why)
        return child

    def _note_silence(self, error: Exception) -> None:
        """Take note that the server or the store does not answer; the children go on meanwhile.

        Raises:
            StorageAwayError: It has not answered for as long as the host's `wait_seconds`.
        """
        now = time.monotonic()
        if self._silent_since is None:
            self._silent_since = now
            self._log.warning("%s: asked again in a moment: %s: %s", self._film.name, type(error).__name__, error)
        if now - self._silent_since > self._host.settings.wait_seconds:
            raise StorageAwayError(f"the server or the store was away for {now - self._silent_since:.0f} s: {error}")


def _call_all(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Future[Result]]:
    """Call a function with each item, in several threads; return the calls in the order of the items, all ended."""
    with ThreadPoolExecutor(CALLERS) as pool:
        return [pool.submit(copy_context().run, function, item) for item in items]  # the context has Prefect's settings


def _rules(plan: FilmPlan, settings: Settings) -> DispatchRules:
    shortest_seconds = min(DispatchRules().shortest_seconds, settings.shard_seconds)
    shortest = {Strategy.FILM: math.inf, Strategy.SEGMENTS: min(START_SECONDS, shortest_seconds)}
    return DispatchRules(
        late_seconds=settings.late_seconds,
        stall_seconds=settings.stall_seconds,
        wait_seconds=settings.wait_seconds,
        shortest_seconds=shortest.get(plan.strategy, shortest_seconds),
        longest_seconds=settings.shard_seconds,
    )


def _is_to_go_on() -> bool:
    """Return whether the children are to go on: this run was handed back, and starts elsewhere."""
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(flow_run.id).state if flow_run.id else None
    except (HTTPError, PrefectException):
        return False
    return state is not None and state.type in (StateType.SCHEDULED, StateType.PENDING)
