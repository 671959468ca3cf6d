"""Sixty films queued at once, `strategy: film`: how busy the sessions are, and how many task runs a film costs."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from benchmarks.films import Bench, fresh_folder, make_job
from benchmarks.measurement import Measurement
from benchmarks.process_tree import MemorySampler
from benchmarks.server import PREFECT, Server, running, serve
from fanreel.segments.record import SegmentEvent
from fanreel.sessions.capacity import read_capacity
from fanreel.store.local import LocalStore

__all__ = ["busy_share", "measure"]

FILMS, PHOTOS_A_FILM, SECONDS_A_SLIDE = 60, 5, 4.0
LEAST_BUSY, MOST_TASK_RUNS, MOST_ANSWER_SECONDS = 0.90, 20, 2.0
LOOK_SECONDS = 1.0
WORKER_LIMIT = 6
"""Three runs a slot: one renders, one starts or waits, one ends. With two, a slot had no taker a third of the time."""
POLL_SECONDS = 2  # of the worker: how soon it sees that a run has ended; Prefect's own default is 10
LIMIT_SECONDS = 1500
DEPLOYMENT = "render-slideshow/local"
OVER = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def measure(bench: Bench) -> Iterator[Measurement]:
    """Yield the share of time that the sessions were at work, and the most task runs of any film."""
    folder = fresh_folder("queue")
    count = 4 if bench.quick else FILMS
    with serve(folder) as server:
        server.run("work-pool", "create", "local", "--type", "process")
        server.run("deploy", "--name", "local")
        command = [*PREFECT, "worker", "start", "--pool", "local", "--limit", str(WORKER_LIMIT)]
        env = {**server.env, "PREFECT_WORKER_QUERY_SECONDS": str(POLL_SECONDS)}
        queued_at = time.time()
        _queue(bench, server, folder, count)
        with (
            running(command, log=folder / "worker.log", env=env) as worker,
            MemorySampler(worker.pid) as memory,
            AnswerSampler(server) as answers,
        ):
            _wait_until_over(server, count)
        over_at = time.time()
        task_runs = _task_runs_a_film(server)
        tracebacks = server.tracebacks()
    events = _events(folder / "store")
    slots = read_capacity().cores
    share = busy_share(events, slots=slots)
    first, last = min(event.started_at for event in events), max(event.ended_at for event in events)
    beside = {
        "from the first session's start to the last one's end": f"{last - first:.1f} s",
        "from queueing to the last run's end": f"{over_at - queued_at:.1f} s",
        "sessions": len({event.session for event in events}),
        "segments": len(events),
        "waited for a session": f"{sum(event.waited_seconds for event in events) / len(events):.2f} s a segment",
        "pss_mb": round(memory.peak_bytes / 1e6),
        "bytes": sum(path.stat().st_size for path in folder.glob("film-*.mp4")),
        "how": f"{count} films of {bench.seconds(SECONDS_A_SLIDE) * PHOTOS_A_FILM:g} s, draft, 1080p; one process "
        f"worker, limit {WORKER_LIMIT}, polling every {POLL_SECONDS} s; {slots} slots of one thread; a session is busy "
        "from its first frame to its last segment",
    }
    yield Measurement(f"sessions busy, {count} films queued at once", share, LEAST_BUSY, True, "", beside, bench.quick)
    every = {"how": f"a page of flow runs, asked for every {LOOK_SECONDS:g} s while films are made", **answers.told()}
    yield Measurement(
        "slowest answer of the API", answers.slowest_seconds, MOST_ANSWER_SECONDS, False, "s", every, bench.quick
    )
    yield Measurement("tracebacks in the server's log", tracebacks, 0, False, "", {}, bench.quick)
    most = max(task_runs.values(), default=0)
    told = {"films": len(task_runs), "task runs in all": sum(task_runs.values())}
    yield Measurement("task runs of one film, the most", most, MOST_TASK_RUNS, False, "", told, bench.quick)


class AnswerSampler:
    """Asks a server every second for what the page of runs asks for, and notes how long its answers take."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._seconds: list[float] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    @property
    def slowest_seconds(self) -> float:
        """How long the slowest answer took."""
        return max(self._seconds, default=0.0)

    def told(self) -> dict[str, str]:
        """Return how many answers there were, and how long the usual one took."""
        ordered = sorted(self._seconds) or [0.0]
        return {"answers": str(len(ordered)), "median": f"{ordered[len(ordered) // 2]:.3f} s"}

    def _look(self) -> None:
        while not self._is_over.wait(LOOK_SECONDS):
            asked_at = time.monotonic()
            with contextlib.suppress(OSError, RuntimeError):  # no answer: the time until it was given up counts
                self._server.ask("flow_runs/filter", {"limit": 50, "sort": "EXPECTED_START_TIME_DESC"})
            self._seconds.append(time.monotonic() - asked_at)


def busy_share(events: Sequence[SegmentEvent], *, slots: int) -> float:
    """Return which part of `slots` sessions was at work, from the first start to the last end.

    A session makes its segments one after another, the next begun before the last packets of the one before are out:
    so the time of each session is counted from its first start to its last end, once.
    """
    sessions: dict[tuple[str, int], list[SegmentEvent]] = {}
    for event in events:
        sessions.setdefault((event.host, event.session), []).append(event)
    spans = [(min(e.started_at for e in each), max(e.ended_at for e in each)) for each in sessions.values()]
    wall = max(end for _, end in spans) - min(start for start, _ in spans)
    return sum(end - start for start, end in spans) / (slots * wall)


def _queue(bench: Bench, server: Server, folder: Path, count: int) -> None:
    deployment = server.ask(f"deployments/name/{DEPLOYMENT}")["id"]
    for number in range(count):
        photos = [str(bench.photos[(number + step * 7) % len(bench.photos)]) for step in range(PHOTOS_A_FILM)]
        job = make_job(
            folder / f"film-{number:02d}.mp4",
            preset="draft",
            photos=photos,
            seconds_per_slide=bench.seconds(SECONDS_A_SLIDE),
            strategy="film",
        )
        # A zoom of its own, so that no film finds another one's segments.
        job = job.model_copy(update={"zoom": 1.2 + number / 1000})
        body = {
            "parameters": {"job": job.model_dump(mode="json")},
            "state": {"type": "SCHEDULED"},
            "idempotency_key": f"film {number}",  # a question that is asked again makes no second run
        }
        server.ask(f"deployments/{deployment}/create_flow_run", body)


def _wait_until_over(server: Server, count: int) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        states = Counter(run["state_type"] for run in server.ask("flow_runs/filter", {"limit": 200}))
        if sum(states[name] for name in OVER) >= count:
            if states["COMPLETED"] < count:
                raise RuntimeError(f"of {count} films not all were made: {dict(states)}")
            return
        time.sleep(1)
    raise RuntimeError(f"not over after {LIMIT_SECONDS} s: {dict(states)}; see worker.log in the bench's folder")


def _task_runs_a_film(server: Server) -> Counter[str]:
    """Return how many task runs each flow run had, as the server counts them."""
    counts: Counter[str] = Counter()
    offset = 0
    while page := server.ask("task_runs/filter", {"limit": 200, "offset": offset}):
        counts.update(run["flow_run_id"] for run in page)
        offset += len(page)
    return counts


def _events(store: Path) -> list[SegmentEvent]:
    """Return how each segment in a store came to be."""
    kept = LocalStore(store)
    paths = sorted((store / "segments").glob("*/*.json"))
    return [kept.get(json.loads(path.read_bytes())["record"]["address"]).event for path in paths]
