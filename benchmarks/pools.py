"""One film on the workers of a pool: how soon its first frame comes, what a second worker brings, what a kill costs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.film_queue import OVER
from benchmarks.films import Bench, fresh_folder, make_job, many_photos
from benchmarks.measurement import Measurement
from benchmarks.process_tree import MemorySampler, process_tree
from benchmarks.server import Server, running, serve
from fanreel.segments.record import SegmentRecord
from fanreel.store.local import LocalStore

__all__ = ["measure"]

PHOTOS, SECONDS_A_SLIDE = 24, 6.0
SHARD_SECONDS = 20.0
"""So that a slot has several, for a second worker and after a kill; by default they are of up to three minutes."""
PARENT_LOOK_SECONDS = 1.0
POLL_SECONDS = 2  # of the workers; Prefect's own default is 10
LIMIT_SECONDS = 900
DEPLOYMENT = "render-slideshow/pools"

MOST_FIRST_FRAME_SECONDS, LEAST_SPEEDUP, MOST_PARENT_MB = 30.0, 1.4, 400
MOST_TASK_RUNS_A_CHILD, MOST_KILL_COST = 4.0, 1.5


@dataclass(frozen=True, slots=True)
class _Film:
    """What one film took."""

    seconds: float
    first_frame_seconds: float
    frame_count: int
    largest_segment_frames: int
    child_runs: int
    task_runs: int
    parent_cpu_seconds: float
    parent_bytes: int


def measure(bench: Bench) -> Iterator[Measurement]:
    """Yield the figures of a film on one worker, on two, and on two of which a child is killed."""
    folder = fresh_folder("pools")
    with serve(folder) as server:
        _apply(server)
        one = _make(bench, server, "one", workers=1)
        two = _make(bench, server, "two", workers=2)
        killed = _make(bench, server, "killed", workers=2, kill=True)
    how = (
        f"{two.frame_count} frames, 1080p draft; workers with one slot each, polling every {POLL_SECONDS} s; shards of "
        f"at most {SHARD_SECONDS:g} s of work; PostgreSQL; one machine: both workers share its cores and caches"
    )
    first = {"how": how, "one worker": f"{one.first_frame_seconds:.1f} s", "of": "two workers"}
    yield Measurement(
        "from the request to a film's first frame",
        two.first_frame_seconds, MOST_FIRST_FRAME_SECONDS, False, "s", first, bench.quick,
    )  # fmt: skip
    both = {"one worker": f"{one.seconds:.1f} s", "two workers": f"{two.seconds:.1f} s"}
    yield Measurement("two workers over one", one.seconds / two.seconds, LEAST_SPEEDUP, True, "x", both, bench.quick)
    rows = {"child runs": two.child_runs, "task runs": two.task_runs, "flow runs": two.child_runs + 1}
    yield Measurement(
        "task runs a child run, all of a film's",
        two.task_runs / max(1, two.child_runs), MOST_TASK_RUNS_A_CHILD, False, "", rows, bench.quick,
    )  # fmt: skip
    parent = {"cpu_seconds": round(two.parent_cpu_seconds, 1), "film_seconds": round(two.seconds, 1)}
    parent["how"] = "the control worker, its launcher of engines and its film's flow; CPU includes their imports"
    yield Measurement("memory of a parent", two.parent_bytes / 1e6, MOST_PARENT_MB, False, "MB", parent, bench.quick)
    lost = {
        "without": f"{two.seconds:.1f} s",
        "with": f"{killed.seconds:.1f} s",
        "child runs": killed.child_runs,
        "made twice, at most": f"{killed.largest_segment_frames} frames: the segment that the killed session was at",
    }
    yield Measurement(
        "a film one of whose child runs is killed, over one without",
        killed.seconds / two.seconds, MOST_KILL_COST, False, "x", lost, bench.quick,
    )  # fmt: skip


def _apply(server: Server) -> None:
    command = [sys.executable, "-m", "deployments.apply"]
    with running(command, log=server.folder / "apply.log", env=server.env) as process:
        if process.wait(240):
            raise RuntimeError((server.folder / "apply.log").read_text()[-2000:])


def _make(bench: Bench, server: Server, name: str, *, workers: int, kill: bool = False) -> _Film:
    store = server.folder / f"store-{name}"
    env = {
        **server.env,
        "FANREEL_STORE": str(store),
        "FANREEL_SHARD_SECONDS": str(SHARD_SECONDS),
        "PREFECT_WORKER_QUERY_SECONDS": str(POLL_SECONDS),
    }
    photos = [str(path) for path in many_photos(bench.photos, count=4 if bench.quick else PHOTOS)]
    job = make_job(
        server.folder / f"{name}.mp4",
        preset="draft",
        photos=photos,
        seconds_per_slide=bench.seconds(SECONDS_A_SLIDE),
        strategy="segments",
    ).with_machines(render_on=["cpu"])
    with ExitStack() as stack:
        control = _start_worker(stack, server, env, "control", f"control-{name}", "4")
        cpu = [_start_worker(stack, server, env, "cpu", f"cpu-{name}-{n}", "1") for n in range(workers)]
        memory = stack.enter_context(MemorySampler(control, every_seconds=PARENT_LOOK_SECONDS))
        _wait_for_workers(server, workers)
        asked_at = time.time()
        deployment = server.ask(f"deployments/name/{DEPLOYMENT}")["id"]
        body = {"parameters": {"job": job.model_dump(mode="json")}, "state": {"type": "SCHEDULED"}}
        run = server.ask(f"deployments/{deployment}/create_flow_run", body)["id"]
        _wait(server, run, store, kill_below=cpu[0] if kill else 0)
        seconds = time.time() - asked_at
        cpu_seconds = sum(map(_waited_cpu_seconds, process_tree(control)))
    records = _records(store)
    children = server.ask("flow_runs/filter", {"flow_runs": {"tags": {"all_": [_tag(store)]}}, "limit": 200})
    ids = [run, *(child["id"] for child in children)]
    task_runs = server.ask("task_runs/count", {"flow_runs": {"id": {"any_": ids}}})
    frames = round(len(photos) * bench.seconds(SECONDS_A_SLIDE) * float(job.frame_rate))
    first = min(record.event.started_at for record in records) - asked_at
    largest = max(record.frame_count for record in records)
    return _Film(seconds, first, frames, largest, len(children), task_runs, cpu_seconds, memory.peak_bytes)


def _start_worker(stack: ExitStack, server: Server, env: dict[str, str], pool: str, name: str, limit: str) -> int:
    command = [sys.executable, "-m", "deployments.worker", "--fork-engines"]
    command += ["--pool", pool, "--name", name, "--limit", limit]
    return stack.enter_context(running(command, log=server.folder / f"{name}.log", env=env)).pid


def _wait_for_workers(server: Server, count: int) -> None:
    deadline = time.monotonic() + 120
    for pool, least in (("control", 1), ("cpu", count)):
        while _online(server, pool) < least:
            if time.monotonic() > deadline:
                raise RuntimeError(f"no {least} workers of {pool} came")
            time.sleep(0.5)


def _online(server: Server, pool: str) -> int:
    """Return how many workers of a pool are there; those of the film before are gone, and not seen to be yet."""
    found = server.ask(f"work_pools/{pool}/workers/filter", {"limit": 200})
    return sum(worker["status"] == "ONLINE" and _is_of_now(worker["name"], server) for worker in found)


def _is_of_now(name: str, server: Server) -> bool:
    log = server.folder / f"{name}.log"
    return log.exists() and "started!" in log.read_text() and "stopped!" not in log.read_text()


def _wait(server: Server, run: str, store: Path, *, kill_below: int) -> None:
    """Wait for a flow run; once the first segment is there, kill a child run of the worker with this pid."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        state: Any = server.ask(f"flow_runs/{run}")["state"]
        if state["type"] in OVER:
            if state["type"] != "COMPLETED":
                raise RuntimeError(f"the film ended as {state['type']}: {state['message']}")
            return
        if kill_below and _records(store):
            below = [pid for pid in process_tree(kill_below) if pid != kill_below]
            for pid in below:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            kill_below = 0 if below else kill_below
        time.sleep(0.5)
    raise RuntimeError(f"the film was not over after {LIMIT_SECONDS} s")


def _waited_cpu_seconds(pid: int) -> float:
    """Return the user and system time of a process and of all that it waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def _records(store: Path) -> list[SegmentRecord]:
    kept = LocalStore(store)
    paths = sorted((store / "segments").glob("*/*.json"))
    return [kept.get(json.loads(path.read_bytes())["record"]["address"]) for path in paths]


def _tag(store: Path) -> str:
    (plan,) = (path.stem for path in (store / "plans").glob("*.json"))
    return f"film:{plan[:16]}"
