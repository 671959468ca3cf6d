"""What 1 to 1,000 workers make of one long film and of 1,000 short ones: the real dispatcher among simulated pools.

`python -m benchmarks.scale` prints the tables of docs/scale.md. Nothing is rendered: see `benchmarks.pool_simulation`.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from blake3 import blake3

from benchmarks.films import Bench
from benchmarks.measurement import Measurement
from benchmarks.pool_simulation import PoolSimulation, Run, WorkerKind
from benchmarks.simulated_parent import SimulatedParent
from fanreel.dispatch.children import DispatchRules
from fanreel.job.parse import parse_job
from fanreel.job.slideshow import Move
from fanreel.plan.content import Photo
from fanreel.plan.film import FilmPlan, plan_to_json
from fanreel.plan.kinds import plan_films
from fanreel.plan.slideshow import FetchedStills, Source, Still

__all__ = ["measure"]

HOURS, SECONDS_A_SLIDE = 6.0, 6.0
SHORT_FILMS, SHORT_SECONDS = 1000, 60.0

CPU = WorkerKind("cpu", fps=53.0, fps_spread=0.1)
"""One slot is one core: 1080p, draft, 2,160 frames in 40.6 CPU-seconds (docs/benchmarks.md). The spread is a guess."""

GPU = WorkerKind("nvenc", slots=2, fps=600.0, fps_spread=0.1)
"""An L4: two engines of 647 frames a second at P3, 93 % of it with two sessions [S: docs/nvenc.md]; not measured."""

BYTES_A_FRAME = 48_000
"""Of a draft of the benchmark's grainy photos (docs/benchmarks.md); smooth ones take a fifth."""

PHOTO_BYTES = 8_000_000
"""Of a JPEG of 12 to 24 megapixels."""

FILM_LAG_SECONDS = (14.0, 6.0)
"""Of a short film's parent: from being queued to its first tick (a poll, the start, fetch and plan), and its join."""

HEARTBEAT_SECONDS, WORKER_CALLS_A_BEAT = 30.0, 1
CHILD_CALLS = 45
"""Requests of one child, and of its worker for it: as counted in a real server's log (docs/scale.md)."""

QUEUES = (
    *((1, 16, 50), (16, 16, 1000), (16, 32, 1000), (100, 16, 1000), (100, 64, 1000), (100, 256, 1000)),
    *((1000, 16, 1000), (1000, 256, 1000), (1000, 1000, 1000)),
)
"""Workers, parents that may be begun at a time (`prefect.yaml` says 16), and films; one worker gets fewer of these."""

IDLE_MOST = 0.10


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the films.

    Attributes:
        slots: Of all workers.
        seconds: From the first film's start to the last one's last segment.
        idle_share: Of the slots, from the first child's first line to the last one's end.
        tail_seconds: From the time at which the first slot had nothing more to do to the end of the last child.
        longest_seconds: Of a child.
        children: Child runs.
        calls_a_second: Requests to the server, on average; the parents', the workers' and the children's.
        peak_calls: The most in 10 seconds, a second; the parents' and the workers' polls.
        store_requests: Of all.
        moved_bytes: Up and down: segments, plans, photos.
        wasted_share: Of the time in which slots made frames.
        took_seconds: That the simulation took.
    """

    slots: int
    seconds: float
    idle_share: float
    tail_seconds: float
    longest_seconds: float
    children: int
    calls_a_second: dict[str, float]
    peak_calls: float
    store_requests: int
    moved_bytes: int
    wasted_share: float
    took_seconds: float


def measure(bench: Bench) -> Iterator[Measurement]:
    """Yield the idle shares that are demanded, and the tails, of a film of six hours."""
    plan = _plan(0.5 if bench.quick else HOURS)
    for workers in (16, 100):
        found = simulate_film(plan, CPU, workers)
        beside = {"seconds": found.seconds, "children": found.children, "requests a second": found.calls_a_second}
        name = f"idle share of {workers} simulated workers, {plan.seconds / 3600:g} hours"
        yield Measurement(name, found.idle_share, IDLE_MOST, False, "of the slots", beside, bench.quick)
        tail = found.tail_seconds / found.longest_seconds
        name = f"tail of {workers} simulated workers / longest shard"
        yield Measurement(name, tail, 1.0, False, "x", {"tail": found.tail_seconds}, bench.quick)


def simulate_film(plan: FilmPlan, kind: WorkerKind, workers: int, *, seed: int = 1) -> Outcome:
    """Return what so many workers make of one film."""
    began = time.perf_counter()
    simulation = PoolSimulation(seed=seed)
    simulation.add_workers(kind, workers)
    counts = [segment.frame_count for segment in plan.segments]
    parent = SimulatedParent(simulation, plan.name, counts, speeds={kind.pool: kind.fps})
    simulation.run(until=lambda: parent.ended_at is not None)
    return _outcome(simulation, plan, films=1, took_seconds=time.perf_counter() - began)


def simulate_queue(
    plan: FilmPlan, kind: WorkerKind, workers: int, *, parents: int, films: int = SHORT_FILMS, seed: int = 1
) -> Outcome:
    """Return what so many workers make of films queued at once, of which so many may be begun at a time."""
    began = time.perf_counter()
    simulation = PoolSimulation(seed=seed)
    simulation.add_workers(kind, workers)
    counts = [segment.frame_count for segment in plan.segments]
    rules = replace(DispatchRules(), shortest_seconds=math.inf, wait_seconds=math.inf)
    begun: list[SimulatedParent] = []
    running: list[SimulatedParent] = []

    def begin() -> None:
        running[:] = [parent for parent in running if parent.ended_at is None]
        while len(running) < parents and len(begun) < films:
            parent = SimulatedParent(
                simulation,
                f"film-{len(begun)}",
                counts,
                speeds={kind.pool: kind.fps},
                rules=rules,
                lag_seconds=FILM_LAG_SECONDS,
            )
            begun.append(parent)
            running.append(parent)
        if running:
            simulation.at(simulation.now + 1.0, begin)

    begin()
    simulation.run(until=lambda: len(begun) == films and all(parent.ended_at is not None for parent in running))
    return _outcome(simulation, plan, films=films, took_seconds=time.perf_counter() - began)


def _plan(hours: float) -> FilmPlan:
    """Return the plan of a film of photos that all differ, as the real planner makes it."""
    job = parse_job({"photos": ["a"], "output": "film.mp4", "size": "1920x1080", "fps": "30"})
    stills = [
        Still(
            Source(Photo(blake3(str(number).encode()).hexdigest(), 4000, 3000), f"/p/{number}.jpg"),
            SECONDS_A_SLIDE,
            Move.AUTO,
        )
        for number in range(round(hours * 3600 / SECONDS_A_SLIDE))
    ]
    (plan,) = plan_films(job, FetchedStills(tuple(stills)), output="/films/film.mp4")
    return plan


def _outcome(simulation: PoolSimulation, plan: FilmPlan, *, films: int, took_seconds: float) -> Outcome:
    tally, runs = simulation.tally, [run for each in simulation.runs.values() for run in each.values()]
    started = [run for run in runs if not math.isnan(run.running_at)]
    first, end = min(run.running_at for run in started), max(run.ended_at for run in runs)
    slots = sum(worker.kind.slots for worker in simulation.workers)
    last: dict[tuple[str, int], float] = {}
    for run in started:
        if run.worker:
            place = (run.worker.name, run.slot)
            last[place] = max(last.get(place, 0.0), run.ended_at)
    by = dict.fromkeys(("parent", "worker"), 0)
    for what, count in tally.calls.items():
        by[what.split(":")[0]] += count
    by["worker"] += round(len(simulation.workers) * end / HEARTBEAT_SECONDS) * WORKER_CALLS_A_BEAT
    by["child"] = CHILD_CALLS * len(runs)
    peak = max(sum(tally.calls_by_second[second + i] for i in range(10)) for second in range(max(1, int(end) - 9))) / 10
    return Outcome(
        slots=slots,
        seconds=end,
        idle_share=1.0 - tally.busy_seconds / (slots * (end - first)),
        tail_seconds=end - min(last.values()),
        longest_seconds=max(run.ended_at - run.running_at for run in started),
        children=len(runs),
        calls_a_second={who: round(count / end, 1) for who, count in by.items()},
        peak_calls=peak,
        store_requests=sum(tally.store_requests.values()),
        moved_bytes=_moved_bytes(plan, runs, films=films),
        wasted_share=tally.wasted_seconds / tally.busy_seconds,
        took_seconds=took_seconds,
    )


def _moved_bytes(plan: FilmPlan, runs: list[Run], *, films: int) -> int:
    """Return the bytes that go to the store and come from it: segments and film, plans, each worker's photos."""
    film_bytes = plan.frame_count * BYTES_A_FRAME
    plan_bytes = len(plan_to_json(plan))
    photos = set()
    for run in runs:
        for index in run.segments.indices:
            segment = plan.segments[index]
            for clip in plan.timeline.clips_between(segment.start_frame, segment.end_frame):
                photos.add((run.film, run.worker.name if run.worker else "", clip.content.photo.digest))
    # A segment goes up and comes down to be joined; the film goes up. Photos go up once and down to each worker.
    up = films * (2 * film_bytes + plan_bytes + len(plan.photo_paths) * PHOTO_BYTES)
    return up + films * film_bytes + len(runs) * plan_bytes + len(photos) * PHOTO_BYTES


def _row(first: str, found: Outcome) -> str:
    calls = found.calls_a_second
    cells = [
        first,
        f"{found.seconds:,.0f}",
        f"{found.idle_share:.0%}",
        f"{found.tail_seconds:,.0f}",
        f"{found.longest_seconds:,.0f}",
        f"{found.children:,}",
        f"{calls['parent']:g} / {calls['worker']:g} / {calls['child']:g}",
        f"{found.peak_calls:,.0f}",
        f"{found.store_requests:,}",
        f"{found.moved_bytes / 1e9:,.0f}",
        f"{found.took_seconds:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def _print_tables() -> None:
    heads = "s | idle | tail s | longest s | children | calls a second | peak | store requests | GB | simulated in s"
    plan = _plan(HOURS)
    print(
        f"{plan.seconds / 3600:g} hours, {len(plan.segments)} segments, plan {len(plan_to_json(plan)) / 1e6:.1f} MB\n"
    )
    print(f"| workers | {heads} |\n|{'---|' * 11}")
    for kind, polls in ((CPU, 10.0), (CPU, 2.0), (GPU, 10.0)):
        for workers in (1, 16, 100, 1000):
            name = f"{workers:,} {kind.pool}, poll {polls:g} s"
            print(_row(name, simulate_film(plan, replace(kind, poll_seconds=polls), workers)), flush=True)
    short = _plan(SHORT_SECONDS / 3600)
    print(f"\nFilms of {short.seconds:g} s, {len(short.segments)} segments each\n")
    print(f"| workers, parents, films | {heads} |\n|{'---|' * 11}")
    for workers, parents, films in QUEUES:
        found = simulate_queue(short, CPU, workers, parents=parents, films=films)
        print(_row(f"{workers:,} cpu, {parents:,} parents, {films:,} films", found), flush=True)


if __name__ == "__main__":
    sys.exit(_print_tables())
