"""Work pools in virtual time: a server's queues, workers that poll them, child runs that make segments, and what fails.

It stands in for everything around the real dispatcher (`benchmarks.simulated_parent` drives it), so that what a
thousand workers do in an hour is seen within seconds, the same each time for one seed.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fanreel.dispatch.children import Child, Phase, Pool, SegmentRun, Start

__all__ = ["AwayError", "PoolSimulation", "Run", "Worker", "WorkerKind"]

POLL_JITTER = 0.3
"""Share by which Prefect's workers vary the time between two polls. Source: prefect.workers.base, 3.8."""

OFFLINE_SECONDS = 90.0
"""So long after its last heartbeat a worker counts as offline: three of Prefect's 30 s."""

CRASH_SECONDS = 4.0
"""Within so long a worker tells of a child that was killed (as tried with Prefect 3)."""

_OVER = (Phase.DONE, Phase.FAILED)


class AwayError(Exception):
    """The server or the store does not answer."""


@dataclass(frozen=True, slots=True)
class WorkerKind:
    """What some workers of a pool are like; seconds are medians, a spread is the sigma of their logarithm.

    Attributes:
        pool: Their pool.
        slots: Children at once of each.
        fps: Frames that a slot makes a second.
        fps_spread: Between slots.
        segment_spread: Between the segments of one slot.
        poll_seconds: Between two polls.
        start_seconds: From being taken to the flow's first line.
        ready_seconds: From there to the first frame: the plan is fetched, a session starts.
        end_seconds: From the last segment to the end of the process.
        upload_seconds: Of one segment; the slot waits for it.
        times_spread: Of all those times.
        cancel_seconds: From being told to end to having ended.
    """

    pool: str
    slots: int = 1
    fps: float = 50.0
    fps_spread: float = 0.1
    segment_spread: float = 0.05
    poll_seconds: float = 10.0
    start_seconds: float = 2.0
    ready_seconds: float = 2.0
    end_seconds: float = 1.0
    upload_seconds: float = 0.2
    times_spread: float = 0.3
    cancel_seconds: float = 5.0


@dataclass(slots=True, eq=False)
class Worker:
    """A worker; times are those of the simulation."""

    kind: WorkerKind
    name: str
    slot_fps: list[float]
    free: list[int]
    gone_at: float = math.inf
    frozen_until: float = 0.0
    frozen_at: float = 0.0

    def is_online(self, now: float) -> bool:
        """Return whether the server takes it for one that is there."""
        silent_since = min(self.gone_at, self.frozen_at if self.frozen_until > now else math.inf)
        return now - silent_since < OFFLINE_SECONDS


@dataclass(slots=True, eq=False)
class Run:
    """A child run."""

    key: str
    film: str
    pool: str
    segments: SegmentRun
    because: str
    created_at: float
    phase: Phase = Phase.WAITING
    reason: str = ""
    is_hopeless: bool = False
    worker: Worker | None = None
    slot: int = -1
    running_at: float = math.nan
    ended_at: float = math.nan

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.phase in _OVER


@dataclass(slots=True)
class Tally:
    """What a simulation counts.

    Attributes:
        calls: Requests to the server, by who sends them and for what.
        calls_by_second: The same, by the second in which they come.
        store_requests: Requests to the store, by what they are for.
        made: How often each segment was made, by film and index.
        busy_seconds: In which slots made frames.
        wasted_seconds: Of those, in which they made what was lost or was there already.
        overlaps: Children that were started over segments that a living child, which nobody gave up, makes.
    """

    calls: Counter[str] = field(default_factory=Counter)
    calls_by_second: Counter[int] = field(default_factory=Counter)
    store_requests: Counter[str] = field(default_factory=Counter)
    made: Counter[tuple[str, int]] = field(default_factory=Counter)
    busy_seconds: float = 0.0
    wasted_seconds: float = 0.0
    overlaps: list[tuple[Run, Run]] = field(default_factory=list)


class PoolSimulation:
    """A server with work pools, the workers of these, and a store of segments.

    Args:
        seed: Of all that is random.
        zombie_seconds: After so long the server marks children whose host is gone as crashed; infinite: never.

    Attributes:
        now: Seconds since the beginning.
        runs: All children there ever were, by film; the server's memory.
        store: Indices of the segments that are there, by film.
        poison: Why a segment fails, by film, index and pool; a hopeless reason begins with "hopeless".
        is_away: Says of a time and of "server" or "store" whether it does not answer.
    """

    def __init__(self, *, seed: int = 0, zombie_seconds: float = 90.0) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self.runs: defaultdict[str, dict[str, Run]] = defaultdict(dict)
        self.store: defaultdict[str, set[int]] = defaultdict(set)
        self.frame_counts: dict[str, Sequence[int]] = {}
        self.poison: dict[tuple[str, int, str], str] = {}
        self.workers: list[Worker] = []
        self.tally = Tally()
        self.is_away: Callable[[float, str], bool] = lambda now, what: False
        self._zombie_seconds = zombie_seconds
        self._queues: defaultdict[str, list[Run]] = defaultdict(list)
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._event_count = 0

    def at(self, time: float, action: Callable[..., None], *arguments: Any) -> None:
        """Have something done at a time; what is to be done at one time is done in the order in which it was said."""
        self._event_count += 1
        heapq.heappush(self._events, (max(time, self.now), self._event_count, action, arguments))

    def run(self, *, until: Callable[[], bool], limit_seconds: float = 10 * 86400.0) -> None:
        """Let time pass.

        Raises:
            TimeoutError: `until` does not come true within the limit.
        """
        while not until():
            if not self._events or self._events[0][0] > limit_seconds:
                raise TimeoutError(f"nothing came to its end within {limit_seconds:.0f} simulated seconds")
            self.now, _, action, arguments = heapq.heappop(self._events)
            action(*arguments)

    # Workers

    def add_workers(self, kind: WorkerKind, count: int = 1) -> list[Worker]:
        """Have workers start, each at some time within its first poll period."""
        added: list[Worker] = []
        for _ in range(count):
            fps = [kind.fps * self._spread(kind.fps_spread) for _ in range(kind.slots)]
            worker = Worker(kind, f"{kind.pool}-{len(self.workers)}", fps, list(range(kind.slots)))
            self.workers.append(worker)
            added.append(worker)
            self.at(self.now + self.random.uniform(0, kind.poll_seconds), self._poll, worker)
        return added

    def lose_worker(self, worker: Worker) -> None:
        """Have a worker's host vanish with all children on it."""
        worker.gone_at = min(worker.gone_at, self.now)
        for run in self._runs_of(worker):
            if self._zombie_seconds < math.inf:
                self.at(self.now + self._zombie_seconds, self._end, run, Phase.FAILED, "Crashed: no heartbeat")

    def stop_worker(self, worker: Worker) -> None:
        """Have a worker end as it should; its children hand back what they hold."""
        worker.gone_at = min(worker.gone_at, self.now)
        for run in self._runs_of(worker):
            self._end(run, Phase.FAILED, "Crashed: its worker was stopped")

    def freeze_worker(self, worker: Worker, seconds: float) -> None:
        """Have a worker and its children stand still, then go on as if nothing had been."""
        worker.frozen_at, worker.frozen_until = self.now, self.now + seconds

    def kill_child(self, run: Run) -> None:
        """Have a child's process die; its worker tells soon."""
        if run.phase in (Phase.TAKEN, Phase.RUNNING, Phase.LEAVING) and not math.isinf(run.ended_at):
            run.ended_at = math.inf  # dead, and nobody knows
            self.at(self.now + CRASH_SECONDS, self._end, run, Phase.FAILED, "Crashed: exit code -9")

    def delete_run(self, run: Run) -> None:
        """Have somebody delete a child's run on the server; its process then ends too."""
        self.runs[run.film].pop(run.key, None)
        self._end(run, Phase.FAILED, "deleted")

    # What a parent may ask

    def list(self, film: str) -> list[Child]:
        """Return the children of a film as the server shows them."""
        runs = self.runs[film].values()
        self.ask("parent: list", len(runs) // 200 + 1)
        return [
            Child(
                run.key,
                run.pool,
                run.segments,
                run.phase,
                run.reason,
                run.is_hopeless,
                number=int(run.key.rpartition(":")[2]),
            )
            for run in runs
        ]

    def start(self, film: str, start: Start) -> Child:
        """Start a child, or return the one that was started for the same."""
        self.ask("parent: start", 3)
        key = f"{film}:{start.segments.start}-{start.segments.end}:{start.number}"
        if key not in self.runs[film]:
            run = Run(key, film, start.pool, start.segments, start.because, self.now)
            self._note_overlaps(run)
            self.runs[film][key] = run
            self._queues[start.pool].append(run)
        run = self.runs[film][key]
        return Child(run.key, run.pool, run.segments, run.phase, run.reason, run.is_hopeless, start.number)

    def cancel(self, film: str, key: str) -> None:
        """Tell a child to end."""
        self.ask("parent: cancel", 1)
        run = self.runs[film].get(key)
        if run is None or run.is_over or run.phase is Phase.LEAVING:
            return
        if run.worker is None:
            self._end(run, Phase.FAILED, "Cancelled")
            return
        run.phase = Phase.LEAVING
        seconds = self.random.uniform(0.2, 1.0) * run.worker.kind.cancel_seconds
        self.at(self.now + seconds, self._leave, run)

    def pools(self, speeds: Mapping[str, float]) -> list[Pool]:
        """Return pools as the server shows them."""
        self.ask("parent: pools", 2 * len(speeds))
        online = Counter(worker.kind.pool for worker in self.workers if worker.is_online(self.now))
        return [Pool(name, online[name], fps) for name, fps in speeds.items()]

    def look(self, film: str, indices: Iterable[int]) -> set[int]:
        """Return which segments are in the store."""
        asked = list(indices)
        self._require("store")
        self.tally.store_requests["parent: look"] += 2 * len(asked)
        return self.store[film].intersection(asked)

    def ask(self, what: str, count: int) -> None:
        """Count requests to the server.

        Raises:
            AwayError: It does not answer.
        """
        self._require("server")
        self._count(what, count)

    # What happens

    def _poll(self, worker: Worker) -> None:
        if worker.gone_at <= self.now or not self._is_awake(worker, self._poll, worker):
            return
        kind = worker.kind
        self._count("worker: poll", 1)
        queue = self._queues[kind.pool]
        while worker.free and queue and not self.is_away(self.now, "server"):
            run = queue.pop(0)
            if run.phase is Phase.WAITING:
                run.phase, run.worker, run.slot = Phase.TAKEN, worker, worker.free.pop()
                self.at(self.now + kind.start_seconds * self._spread(kind.times_spread), self._begin, run)
        self.at(
            self.now + kind.poll_seconds * self.random.uniform(1 - POLL_JITTER, 1 + POLL_JITTER), self._poll, worker
        )

    def _begin(self, run: Run) -> None:
        worker = run.worker
        if worker is None or run.phase is not Phase.TAKEN or not self._is_alive(run, self._begin, run):
            return
        run.phase, run.running_at = Phase.RUNNING, self.now
        missing = [index for index in run.segments.indices if index not in self.store[run.film]]
        self.tally.store_requests["child: look"] += 2 * len(run.segments.indices) + 1
        seconds = worker.kind.ready_seconds * self._spread(worker.kind.times_spread) if missing else 0.0
        self.at(self.now + seconds, self._make, run, missing, 0)

    def _make(self, run: Run, indices: Sequence[int], place: int) -> None:
        """Have the next segment made, or the child end."""
        worker = run.worker
        if worker is None or not self._is_alive(run, self._make, run, indices, place):
            return
        if place == len(indices):
            self.at(self.now + worker.kind.end_seconds, self._end, run, Phase.DONE, "")
            return
        index = indices[place]
        if reason := self.poison.get((run.film, index, run.pool)):
            run.is_hopeless = reason.startswith("hopeless")
            self._end(run, Phase.FAILED, reason)
            return
        frames = self.frame_counts[run.film][index]
        seconds = frames / worker.slot_fps[run.slot] * self._spread(worker.kind.segment_spread)
        seconds += worker.kind.upload_seconds * self._spread(worker.kind.times_spread)
        self.at(self.now + seconds, self._keep, run, indices, place, seconds)

    def _keep(self, run: Run, indices: Sequence[int], place: int, seconds: float) -> None:
        """Have a segment that was made appear in the store."""
        if run.is_over or math.isinf(run.ended_at):
            self.tally.wasted_seconds += seconds / 2  # on average it was lost half made
            self.tally.busy_seconds += seconds / 2
        if not self._is_alive(run, self._keep, run, indices, place, seconds):
            return
        if self.is_away(self.now, "store"):
            self.at(self.now + 1.0, self._keep, run, indices, place, seconds)
            return
        film, index = run.film, indices[place]
        self.tally.busy_seconds += seconds
        self.tally.wasted_seconds += seconds if index in self.store[film] else 0.0
        self.tally.made[film, index] += 1
        self.tally.store_requests["child: keep"] += 2
        self.store[film].add(index)
        self._make(run, indices, place + 1)

    def _leave(self, run: Run) -> None:
        if run.phase is Phase.LEAVING and self._is_alive(run, self._leave, run):
            self._end(run, Phase.FAILED, "Cancelled")

    def _end(self, run: Run, phase: Phase, reason: str) -> None:
        if run.is_over:
            return
        run.phase, run.reason, run.ended_at = phase, reason, self.now
        if run.worker is not None:
            run.worker.free.append(run.slot)

    def _is_alive(self, run: Run, action: Callable[..., None], *arguments: Any) -> bool:
        """Return whether a child goes on now; `action` is put off while its worker is frozen."""
        if run.is_over or math.isinf(run.ended_at) or run.worker is None or run.worker.gone_at <= self.now:
            return False
        return self._is_awake(run.worker, action, *arguments)

    def _is_awake(self, worker: Worker, action: Callable[..., None], *arguments: Any) -> bool:
        if worker.frozen_until <= self.now:
            return True
        if worker.frozen_until < math.inf:
            self.at(worker.frozen_until + 0.001, action, *arguments)
        return False

    def _note_overlaps(self, run: Run) -> None:
        for other in self.runs[run.film].values():
            lives = other.phase in (Phase.WAITING, Phase.TAKEN, Phase.RUNNING)
            shared = set(run.segments.indices).intersection(other.segments.indices) - self.store[run.film]
            if lives and shared:
                self.tally.overlaps.append((other, run))

    def _runs_of(self, worker: Worker) -> list[Run]:
        return [run for runs in self.runs.values() for run in runs.values() if run.worker is worker and not run.is_over]

    def _require(self, what: str) -> None:
        if self.is_away(self.now, what):
            raise AwayError(what)

    def _count(self, what: str, count: int) -> None:
        self.tally.calls[what] += count
        self.tally.calls_by_second[int(self.now)] += count

    def _spread(self, sigma: float) -> float:
        return math.exp(self.random.gauss(0.0, sigma)) if sigma else 1.0
