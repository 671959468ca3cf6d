"""Our engine as a contestant: one film by `render_job`, in a fresh process, into an empty store.

As a program (`python -m benchmarks.engine JOB.json`) it is that process.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.films import environment, fresh_folder, job_file
from benchmarks.photos import ROOT
from benchmarks.process_tree import Cost, run_contestant
from fanreel.job.slideshow import SlideshowJob

__all__ = ["EngineRun", "run_engine"]


@dataclass(frozen=True, slots=True)
class EngineRun:
    """One film made by the engine.

    Attributes:
        cost: Of the whole process, imports included.
        render_seconds: Of `render_job` alone: launcher, plan, render, join, proof, publishing.
        size_bytes: Of the film.
        frame_count: Of the film.
        film: Where it is.
        sessions: As the engine words them.
    """

    cost: Cost
    render_seconds: float
    size_bytes: int
    frame_count: int
    film: Path
    sessions: str


def run_engine(job: SlideshowJob, *, name: str) -> EngineRun:
    """Render a job in a fresh process with an empty store."""
    folder = fresh_folder(f"engine-{name}")
    Path(job.output).parent.mkdir(parents=True, exist_ok=True)
    Path(job.output).unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.engine", str(job_file(job, folder))]
    cost = run_contestant(command, env=environment(folder / "store"), cwd=ROOT)
    told = json.loads(cost.output.splitlines()[-1])
    return EngineRun(
        cost, told["render_seconds"], told["size_bytes"], told["frame_count"], Path(job.output), told["sessions"]
    )


def _main(path: str) -> None:
    from fanreel.host.host import open_host
    from fanreel.intake.sources import load_job
    from fanreel.render.here import render_job
    from fanreel.settings import read_settings

    job, host = load_job(Path(path)), open_host(read_settings())
    started_at = time.monotonic()
    try:
        (report,) = render_job(job, host=host)
    finally:
        render_seconds = time.monotonic() - started_at
        host.launcher.close()
    told = {
        "render_seconds": render_seconds,
        "size_bytes": report.size_bytes,
        "frame_count": report.frame_count,
        "sessions": report.sessions,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    _main(sys.argv[1])
