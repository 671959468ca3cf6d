"""CPU-seconds of the ffmpeg program's `zoompan` for the same film, whole processes compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg

from benchmarks.engine import EngineRun, run_engine
from benchmarks.films import ZOOM, Bench, environment, fresh_folder, plan_of
from benchmarks.measurement import Measurement, ratio
from benchmarks.photos import ROOT
from benchmarks.process_tree import Cost, run_contestant
from benchmarks.reference import luma_psnr_db, sample_frames
from fanreel.encode.x264 import x264_options
from fanreel.plan.encoding import EncodingPlan
from fanreel.plan.film import FilmPlan

__all__ = ["measure", "x264_arguments"]

THREADS = 2
LEAST = {("draft", "zoompan"): 1.25, ("fast", "zoompan"): 1.05, ("draft", "zoompan after a 4x prescale"): 5.0}
PRESCALE = {"zoompan": 1, "zoompan after a 4x prescale": 4}


def measure(bench: Bench) -> Iterator[Measurement]:
    """Yield CPU-seconds of zoompan over ours."""
    yield from _measure_preset(bench, "draft", ["zoompan", "zoompan after a 4x prescale"])
    yield from _measure_preset(bench, "fast", ["zoompan"])


@dataclass(frozen=True, slots=True)
class _Round:
    ours: EngineRun
    theirs: dict[str, Cost]


def _measure_preset(bench: Bench, preset: str, contestants: list[str]) -> Iterator[Measurement]:
    folder = fresh_folder(f"zoompan-{preset}")
    job = bench.film_job(folder / "ours.mp4", preset=preset)
    plan = plan_of(job)
    films = {name: folder / f"{name.replace(' ', '-')}.mp4" for name in contestants}
    rounds = []
    for number in range(bench.rounds):
        # The prescaled one takes minutes, and its bound is far: once is enough.
        names = [name for name in contestants if number == 0 or PRESCALE[name] == 1]
        costs = {name: _run_zoompan(plan, films[name], PRESCALE[name], folder) for name in names}
        rounds.append(_Round(run_engine(job, name=f"zoompan-{preset}"), costs))
    frames = sample_frames(plan)
    ours = min((each.ours for each in rounds), key=lambda run: run.cost.cpu_seconds)
    beside_ours = ours.cost.beside(
        bytes=ours.size_bytes, psnr_db=round(luma_psnr_db(ours.film, plan, frames), 2), sessions=ours.sessions
    )
    for name in contestants:
        costs = [each.theirs[name] for each in rounds if name in each.theirs]
        best = min(costs, key=lambda cost: cost.cpu_seconds)
        psnr = round(luma_psnr_db(films[name], plan, frames), 2)
        beside = {
            "ours": beside_ours,
            name: best.beside(bytes=films[name].stat().st_size, psnr_db=psnr),
            "how": f"{plan.frame_count} frames, least of {len(costs)} round(s) in turns; imports count, numba's cache "
            f"is warm; PSNR of luma against float64 on frames {frames}",
        }
        value = ratio([cost.cpu_seconds for cost in costs], [each.ours.cost.cpu_seconds for each in rounds])
        bound = LEAST[preset, name]
        yield Measurement(f"CPU-seconds, {name} / ours, {preset}", value, bound, True, "x", beside, bench.quick)


def _run_zoompan(plan: FilmPlan, film: Path, prescale: int, folder: Path) -> Cost:
    film.unlink(missing_ok=True)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-nostdin"]
    for clip in plan.timeline.clips:
        command += ["-i", plan.photo_paths[clip.content.photo.digest]]
    command += ["-filter_complex", _graph(plan, prescale), "-map", "[film]"]
    command += [*x264_arguments(plan), "-an", str(film)]
    return run_contestant(command, env=environment(folder / "store"), cwd=ROOT)


def _graph(plan: FilmPlan, prescale: int) -> str:
    """Return the filters: every photo scaled to cover the (prescaled) film, moved as ours are, then one after another.

    The colours are converted as ours are, so that the PSNR is of the move and not of a matrix.
    """
    encoding = plan.encoding
    width, height = encoding.width_px * prescale, encoding.height_px * prescale
    chains = []
    for index, clip in enumerate(plan.timeline.clips):
        start, end = clip.content.path.start, clip.content.path.end
        zooms_in = start.x1 - start.x0 > end.x1 - end.x0
        chains.append(
            f"[{index}:v]scale={width}:{height}:force_original_aspect_ratio=increase:flags=bicubic"
            f":out_range=tv:out_color_matrix=bt709,format=yuv420p,crop={width}:{height},"
            f"zoompan=z='{_zoom_expression(clip.frame_count, zooms_in=zooms_in)}'"
            f":x='iw/2-iw/zoom/2':y='ih/2-ih/zoom/2':d={clip.frame_count}"
            f":s={encoding.width_px}x{encoding.height_px}:fps={encoding.frame_rate},setsar=1[v{index}]"
        )
    inputs = "".join(f"[v{index}]" for index in range(len(chains)))
    return ";".join([*chains, f"{inputs}concat=n={len(chains)}:v=1:a=0,format=yuv420p[film]"])


def _zoom_expression(frame_count: int, *, zooms_in: bool) -> str:
    """Return zoompan's zoom for our move: the view's width goes from 1 to 1/1.3 of the photo's, eased at both ends."""
    time = f"(on/{max(1, frame_count - 1)})"
    done = f"({time}*{time}*(3-2*{time}))"
    share = done if zooms_in else f"(1-{done})"
    return f"1/(1-{1 - 1 / ZOOM:.9f}*{share})"


def x264_arguments(plan: FilmPlan) -> list[str]:
    """Return ffmpeg's arguments for the encoding of `plan`: preset, quality, features, keyframes and threads."""
    keyframes = [frame for segment in plan.segments for frame in segment.keyframes]
    times = ",".join(f"{float(frame / plan.encoding.frame_rate):.6f}" for frame in keyframes)
    colours = [f"-{name}" for name in ("color_primaries", "color_trc", "colorspace")]
    return [
        *x264_options_arguments(plan.encoding),
        *("-force_key_frames", times, "-threads", str(THREADS)),
        *(word for name in colours for word in (name, "bt709")),
        *("-color_range", "tv", "-r", str(plan.encoding.frame_rate)),
    ]


def x264_options_arguments(encoding: EncodingPlan) -> list[str]:
    """Return ffmpeg's arguments for our options of libx264."""
    options = x264_options(encoding)
    parameters = ":".join(f"{key}={value}" for key, value in options.parameters.items())
    return [
        *("-c:v", "libx264", "-preset", options.preset, "-profile:v", options.profile, "-crf", options.rate_factor),
        *("-forced-idr", "1", "-x264-params", parameters),
    ]
