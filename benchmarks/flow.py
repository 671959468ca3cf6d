"""The Prefect flow in a warm server against the engine alone, both in one process that has imported everything.

As a program (`python -m benchmarks.flow JOB.json ROUNDS`) it is that process; the server is named by its environment.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.films import Bench, fresh_folder, job_file
from benchmarks.measurement import Measurement, ratio
from benchmarks.photos import ROOT
from benchmarks.process_tree import run_contestant
from benchmarks.server import serve

__all__ = ["measure"]

MOST = 1.08


def measure(bench: Bench) -> Iterator[Measurement]:
    """Yield the flow's wall time over the engine's, fast, 60 s of film."""
    folder = fresh_folder("flow")
    job = bench.film_job(folder / "film.mp4", preset="fast", seconds_per_slide=5.0)
    with serve(folder) as server:
        command = [sys.executable, "-m", "benchmarks.flow", str(job_file(job, folder)), str(bench.rounds)]
        cost = run_contestant(command, env=server.env, cwd=ROOT)
    told = json.loads(cost.output.splitlines()[-1])
    beside = {
        "flow": f"{min(told['flow']):.2f} s",
        "engine": f"{min(told['engine']):.2f} s",
        "rounds": told,
        "pss_mb": round(cost.peak_pss_bytes / 1e6),
        "how": f"one process, both warmed by a tiny film, the store emptied before each; least of {bench.rounds} "
        "round(s) in turns; the server's CPU time is shared with both cores that render",
    }
    value = ratio(told["flow"], told["engine"])
    yield Measurement("wall, flow in a warm server / engine alone, fast", value, MOST, False, "x", beside, bench.quick)


def _main(path: str, rounds: str) -> None:
    from fanreel.host.host import current_host
    from fanreel.intake.sources import load_job
    from fanreel.render.here import render_job
    from flows.render_slideshow import render_slideshow

    host = current_host()
    job = load_job(Path(path))
    slides = [slide.model_copy(update={"seconds": 0.5}) for slide in job.slides[:2]]
    tiny = job.model_copy(update={"slides": slides, "size": "320x180"})
    contestants: dict[str, Callable[..., object]] = {
        "flow": render_slideshow,
        "engine": lambda each: render_job(each, host=host),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(int(rounds) + 1):
        for name, run in contestants.items():
            shutil.rmtree(host.settings.store, ignore_errors=True)
            Path(job.output).unlink(missing_ok=True)
            started_at = time.monotonic()
            run(tiny if number == 0 else job)
            if number:
                seconds[name].append(round(time.monotonic() - started_at, 3))
    host.launcher.close()
    print(json.dumps(seconds))


if __name__ == "__main__":
    _main(*sys.argv[1:])
