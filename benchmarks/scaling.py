"""What a second session gains on two cores, against what a second process gains x264 alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from benchmarks.encoder_alone import memory_is_short, run_encoder_alone
from benchmarks.engine import EngineRun, run_engine
from benchmarks.films import Bench, fresh_folder, plan_of
from benchmarks.measurement import Measurement, ratio

__all__ = ["measure"]

LEAST = 0.95
PRESET = "fast"


def measure(bench: Bench) -> Iterator[Measurement]:
    """Yield the engine's gain over x264's gain, one thread each."""
    name = f"gain of 2 sessions over 1 / x264's own gain, {PRESET}"
    folder = fresh_folder("scaling")
    one = bench.film_job(folder / "one.mp4", preset=PRESET, strategy="film")
    two = bench.film_job(folder / "two.mp4", preset=PRESET, strategy="segments", sessions=2)
    if short := memory_is_short(plan_of(one)):
        yield Measurement(name, None, LEAST, True, "x", {"why": short}, bench.quick)
        return
    alone, ours_one, ours_two = [], [], []
    for _ in range(bench.rounds):
        ours_one.append(run_engine(one, name="scaling"))
        ours_two.append(run_engine(two, name="scaling"))
        alone += run_encoder_alone(two, [(1, 1), (2, 1)], folder=folder)
    theirs_one = [run for run in alone if run.processes == 1]
    theirs_two = [run for run in alone if run.processes == 2]
    gain = ratio([run.render_seconds for run in ours_one], [run.render_seconds for run in ours_two])
    their_gain = ratio([run.wall_seconds for run in theirs_one], [run.wall_seconds for run in theirs_two])
    beside = {
        "gain of ours": gain,
        "gain of x264 alone": their_gain,
        "ours, 1 session": _best(ours_one),
        "ours, 2 sessions": _best(ours_two),
        "x264, 1 process": asdict(min(theirs_one, key=lambda run: run.wall_seconds)),
        "x264, 2 processes": asdict(min(theirs_two, key=lambda run: run.wall_seconds)),
        "how": f"{ours_one[0].frame_count} frames, each session and process one thread of x264, render_job apart from "
        "imports; with one session, planning, decoding and proof have a core to themselves, which lessens our gain",
    }
    yield Measurement(name, gain / their_gain, LEAST, True, "x", beside, bench.quick)


def _best(runs: list[EngineRun]) -> dict:
    run = min(runs, key=lambda run: run.render_seconds)
    return run.cost.beside(render_seconds=round(run.render_seconds, 2), bytes=run.size_bytes, sessions=run.sessions)
