"""libx264 alone, its frames in memory before the clock starts, against the whole engine.

As a program (`python -m benchmarks.encoder_alone JOB.json SPLITS`) it is x264 alone: it draws the job's film into
memory, then encodes it by so many processes of so many threads, and prints what that took.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import av
from av.video.frame import PictureType

from benchmarks.engine import run_engine
from benchmarks.films import Bench, environment, fresh_folder, job_file, plan_of
from benchmarks.measurement import Measurement, ratio
from benchmarks.photos import ROOT
from benchmarks.process_tree import run_contestant
from fanreel.draw.frames import FrameSource
from fanreel.encode.libav import plane_views
from fanreel.encode.x264 import x264_options
from fanreel.job.slideshow import SlideshowJob
from fanreel.plan.encoding import EncodingPlan
from fanreel.plan.film import FilmPlan

__all__ = ["EncoderRun", "measure", "memory_is_short", "run_encoder_alone"]

LEAST = {"draft": 0.80, "fast": 0.92}


@dataclass(frozen=True, slots=True)
class EncoderRun:
    """What encoding a film's frames took, the frames lying in memory.

    Attributes:
        processes: Side by side, each with a run of whole segments.
        threads: Of each.
        wall_seconds: From opening the encoders to their last packet.
        cpu_seconds: Of all processes.
        size_bytes: Of all packets.
    """

    processes: int
    threads: int
    wall_seconds: float
    cpu_seconds: float
    size_bytes: int


def measure(bench: Bench) -> Iterator[Measurement]:
    """Yield x264's wall time over the engine's, draft and fast, the same total of threads."""
    for preset, bound in LEAST.items():
        folder = fresh_folder(f"encoder-{preset}")
        job = bench.film_job(folder / "ours.mp4", preset=preset)
        name = f"wall, x264 alone / the whole engine, {preset}"
        if short := memory_is_short(plan_of(job)):
            yield Measurement(name, None, bound, True, "x", {"why": short}, bench.quick)
            continue
        alone, ours = [], []
        for _ in range(bench.rounds):
            alone += run_encoder_alone(job, [(1, 2)], folder=folder)
            ours.append(run_engine(job, name=f"encoder-{preset}"))
        least = min(ours, key=lambda run: run.render_seconds)
        beside = {
            "ours": least.cost.beside(
                render_seconds=round(least.render_seconds, 2), bytes=least.size_bytes, sessions=least.sessions
            ),
            "x264 alone": asdict(min(alone, key=lambda run: run.wall_seconds)),
            "rounds": {
                "ours": [round(run.render_seconds, 2) for run in ours],
                "x264": [round(run.wall_seconds, 2) for run in alone],
            },
            "how": f"{least.frame_count} frames; ours is render_job without the imports of its process, least of "
            f"{bench.rounds} round(s) in turns",
        }
        value = ratio([run.wall_seconds for run in alone], [run.render_seconds for run in ours])
        yield Measurement(name, value, bound, True, "x", beside, bench.quick)


def memory_is_short(plan: FilmPlan) -> str:
    """Return why the frames of a film cannot be held in memory; empty if they can."""
    needed = plan.frame_count * plan.encoding.width_px * plan.encoding.height_px * 3 // 2
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    if needed * 1.2 + 1e9 < free:
        return ""
    return f"{needed / 1e9:.1f} GB of frames do not fit into {free / 1e9:.1f} GB of free memory"


def run_encoder_alone(job: SlideshowJob, splits: list[tuple[int, int]], *, folder: Path) -> list[EncoderRun]:
    """Encode a job's film by x264 alone, once for each (processes, threads), in one process that holds the frames."""
    command = [sys.executable, "-m", "benchmarks.encoder_alone", str(job_file(job, folder)), json.dumps(splits)]
    cost = run_contestant(command, env=environment(folder / "store"), cwd=ROOT)
    return [EncoderRun(**told) for told in json.loads(cost.output.splitlines()[-1])]


def _main(path: str, splits: str) -> None:
    from fanreel.intake.sources import load_job

    plan = plan_of(load_job(Path(path)))
    frames = _draw_film(plan)
    runs = [_encode_apart(plan, frames, processes, threads) for processes, threads in json.loads(splits)]
    print(json.dumps([asdict(run) for run in runs]))


def _draw_film(plan: FilmPlan) -> list[av.VideoFrame]:
    width, height = plan.encoding.width_px, plan.encoding.height_px
    frames = []
    with FrameSource(plan.timeline, photo_paths=plan.photo_paths, width_px=width, height_px=height) as source:
        for number in range(plan.frame_count):
            frame = av.VideoFrame(width, height, "yuv420p")
            source.draw(number, plane_views(frame))
            frames.append(frame)
    return frames


def _encode_apart(plan: FilmPlan, frames: list[av.VideoFrame], processes: int, threads: int) -> EncoderRun:
    """Encode runs of whole segments in forks, which share the frames; all begin at once."""
    gate_out, gate_in = os.pipe()
    told_out, told_in = os.pipe()
    pids = []
    for part in _split(plan, processes):
        if (pid := os.fork()) == 0:
            status = 1
            try:
                os.close(gate_in)
                os.read(gate_out, 1)  # ends when every gate_in is closed
                os.write(told_in, f"{_encode(plan, frames, part, threads)}\n".encode())
                status = 0
            finally:
                os._exit(status)
        pids.append(pid)
    started_at = time.monotonic()
    os.close(gate_in)
    ends = [os.wait4(pid, 0) for pid in pids]
    wall_seconds = time.monotonic() - started_at
    os.close(told_in)
    if any(status for _, status, _ in ends):
        raise RuntimeError("a process that encodes failed")
    with os.fdopen(told_out) as told:
        size_bytes = sum(map(int, told))
    os.close(gate_out)
    cpu_seconds = sum(usage.ru_utime + usage.ru_stime for _, _, usage in ends)
    return EncoderRun(processes, threads, round(wall_seconds, 3), round(cpu_seconds, 3), size_bytes)


def _split(plan: FilmPlan, parts: int) -> list[range]:
    """Return the film as about equal ranges of frames that begin with segments."""
    starts = [segment.start_frame for segment in plan.segments]
    wanted = [plan.frame_count * part / parts for part in range(parts)]
    cuts = sorted({min(starts, key=lambda start: abs(start - place)) for place in wanted})
    return [range(start, end) for start, end in zip(cuts, [*cuts[1:], plan.frame_count], strict=True)]


def _encode(plan: FilmPlan, frames: list[av.VideoFrame], part: range, threads: int) -> int:
    """Return how many bytes the packets of a range have."""
    keyframes = {frame for segment in plan.segments for frame in segment.keyframes} | {part.start}
    context = _open_x264(plan.encoding, threads)
    size_bytes = 0
    for number in part:
        frame = frames[number]
        frame.pts, frame.time_base = number - part.start, context.time_base
        frame.pict_type = PictureType.I if number in keyframes else PictureType.NONE
        size_bytes += sum(packet.size for packet in context.encode(frame))
    return size_bytes + sum(packet.size for packet in context.encode(None))


def _open_x264(plan: EncodingPlan, threads: int):
    """Return a codec context with the engine's options, opened apart from the engine."""
    options = x264_options(plan)
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = plan.width_px, plan.height_px, "yuv420p"
    context.framerate, context.time_base = plan.frame_rate, 1 / plan.frame_rate
    context.thread_count = threads
    context.options = {
        "preset": options.preset,
        "profile": options.profile,
        "crf": options.rate_factor,
        "forced-idr": "1",
        "x264-params": ":".join(f"{key}={value}" for key, value in options.parameters.items()),
    }
    context.open()
    return context


if __name__ == "__main__":
    _main(*sys.argv[1:])
