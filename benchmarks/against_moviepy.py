"""Wall time of MoviePy 2 for the same move, a frame, against ours."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.engine import run_engine
from benchmarks.films import BENCH, ZOOM, Bench, environment, fresh_folder, plan_of
from benchmarks.measurement import Measurement, ratio
from benchmarks.photos import ROOT
from benchmarks.process_tree import Cost, run_contestant
from benchmarks.reference import luma_psnr_db, sample_frames
from benchmarks.zoompan import THREADS
from fanreel.encode.x264 import x264_options
from fanreel.plan.film import FilmPlan

__all__ = ["measure"]

LEAST = 15
VENV = BENCH / "moviepy-venv"
LOCK = ROOT / "benchmarks" / "moviepy-requirements.lock"


def measure(bench: Bench) -> Iterator[Measurement]:
    """Yield MoviePy's wall time a frame over ours, preset fast."""
    _make_environment()
    folder = fresh_folder("moviepy")
    job = bench.film_job(folder / "ours.mp4", preset="fast")
    plan = plan_of(job)
    film = folder / "moviepy.mp4"
    frame_count = plan.timeline.clips[0].frame_count
    ours, theirs, costs = [], [], []
    for _ in range(bench.rounds):
        cost = _run_moviepy(plan, film, folder)
        costs.append(cost)
        theirs.append(json.loads(cost.output.splitlines()[-1])["wall_seconds"] / frame_count)
        ours.append(run_engine(job, name="moviepy"))
    fastest = min(ours, key=lambda run: run.cost.wall_seconds)
    frames = sample_frames(plan, clips=[0])
    best = min(costs, key=lambda cost: cost.wall_seconds)
    beside = {
        "ours": fastest.cost.beside(
            frames=fastest.frame_count,
            fps=round(fastest.frame_count / fastest.cost.wall_seconds, 1),
            bytes=fastest.size_bytes,
            psnr_db=round(luma_psnr_db(fastest.film, plan, frames), 2),
        ),
        "MoviePy 2.2": best.beside(
            frames=frame_count,
            fps=round(1 / min(theirs), 2),
            bytes=film.stat().st_size,
            psnr_db=round(luma_psnr_db(film, plan, frames), 2),
        ),
        "how": f"MoviePy measured on {frame_count} frames, the film's first clip, imports apart; ours on all "
        f"{fastest.frame_count} frames, imports counted; wall time a frame; PSNR on frames {frames}",
    }
    value = ratio(theirs, [run.cost.wall_seconds / run.frame_count for run in ours])
    yield Measurement("wall, MoviePy 2 / ours, a frame, fast", value, LEAST, True, "x", beside, bench.quick)


def _make_environment() -> None:
    """Install MoviePy apart from us: it wants an older Pillow."""
    ready = VENV / "ready"
    if ready.exists() and ready.stat().st_mtime >= LOCK.stat().st_mtime:
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    subprocess.run([str(VENV / "bin/python"), *install, "-r", str(LOCK)], check=True)
    ready.touch()


def _run_moviepy(plan: FilmPlan, film: Path, folder: Path) -> Cost:
    film.unlink(missing_ok=True)
    clip, encoding, options = plan.timeline.clips[0], plan.encoding, x264_options(plan.encoding)
    order = {
        "photo": plan.photo_paths[clip.content.photo.digest],
        "film": str(film),
        "width_px": encoding.width_px,
        "height_px": encoding.height_px,
        "fps": float(encoding.frame_rate),
        "frame_count": clip.frame_count,
        "zoom": ZOOM,
        "preset": options.preset,
        "threads": THREADS,
        # By default ffmpeg would convert by BT.601, and the PSNR would be of the matrix.
        "ffmpeg_arguments": [
            *("-vf", "scale=out_color_matrix=bt709:out_range=tv", "-pix_fmt", "yuv420p", "-crf", options.rate_factor),
            *("-profile:v", options.profile),
            *("-x264-params", ":".join(f"{key}={value}" for key, value in options.parameters.items())),
        ],
    }
    path = folder / "order.json"
    path.write_text(json.dumps(order))
    command = [str(VENV / "bin/python"), str(ROOT / "benchmarks/moviepy_film.py"), str(path)]
    env = environment(folder / "store")
    del env["PYTHONPATH"]
    return run_contestant(command, env=env, cwd=folder)
