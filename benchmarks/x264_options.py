"""What x264 options cost and give on Ken Burns films: CPU-seconds, bytes, VMAF, memory.

    .venv/bin/python -m benchmarks.x264_options draw .bench/photos --film all
    .venv/bin/python -m benchmarks.x264_options run --film all --crf 21,25,29 draft ultrafast superfast,subme=4
    .venv/bin/python -m benchmarks.x264_options table --film all --vmaf 93

A contestant is one of our presets, or a preset of x264 followed by the options that differ from it. The
frames are drawn once, by the engine, into a raw file. Encoders run in one process with one thread each and
are fed ten frames in turn, so that a busy machine slows all of them alike; what counts is the CPU time inside
the encoder, the least of several rounds. `run` appends to ``.bench/x264/<film>.jsonl``; `table` reads it and
draws a line between two rate factors. Memory is known of a contestant that runs alone.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import re
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec.context import Flags

from benchmarks.x264_quality import Quality, measure_quality
from fanreel.draw.frames import FrameSource
from fanreel.encode.libav import plane_views
from fanreel.encode.x264 import x264_options
from fanreel.intake.sources import fetch_stills
from fanreel.job.encoding import Encoding, Preset
from fanreel.job.parse import parse_job
from fanreel.plan.encoding import EncodingPlan, plan_encoding
from fanreel.plan.kinds import plan_films
from fanreel.settings import Settings

FOLDER = Path(".bench/x264")
STREAM = {"sps-id": "1", "keyint": "infinite", "scenecut": "0", "open-gop": "0", "stitchable": "1"}
TURN_FRAMES = 10


@dataclass(frozen=True, slots=True)
class Film:
    """Raw frames on disk: planar 4:2:0, one after the other."""

    name: str
    path: Path
    width_px: int
    height_px: int
    frame_count: int
    keyframes: tuple[int, ...]

    @property
    def plan(self) -> EncodingPlan:
        """A plan of this size at 30 frames a second."""
        return plan_encoding(Encoding(), width_px=self.width_px, height_px=self.height_px, frame_rate=Fraction(30))


@dataclass(frozen=True, slots=True)
class Encode:
    """What one encode cost and gave; the quality is known once it has been measured."""

    contestant: str
    crf: float
    cpu_seconds: float
    stream_bytes: int
    peak_bytes: int
    quality: Quality | None = None


def main() -> None:
    """Draw, run, or print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["draw", "run", "table"])
    parser.add_argument("names", nargs="*", help="photos or folders of photos; contestants")
    parser.add_argument("--film", default="all")
    parser.add_argument("--size", default="1920x1080")
    parser.add_argument("--seconds", type=float, default=4, help="of each photo")
    parser.add_argument("--frames", type=int, default=10**9, help="drawn of each photo, at most")
    parser.add_argument("--crf", default="21,25,29")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--subsample", type=int, default=4, help="VMAF looks at every n-th frame")
    parser.add_argument("--vmaf", type=float, default=93)
    parser.add_argument("--reference", default="ultrafast")
    options = parser.parse_intermixed_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    if options.command == "draw":
        draw_film(options.film, options.names, size=options.size, seconds=options.seconds, most=options.frames)
    elif options.command == "run":
        run(options)
    else:
        print_table(options.film, vmaf=options.vmaf, reference=options.reference, only=options.names)


def draw_film(name: str, photos: Sequence[str], *, size: str, seconds: float, most: int) -> None:
    """Draw the film of a default job from these photos, and say where its clips start."""
    words = {"photos": list(photos), "output": "film.mp4", "base": str(Path.cwd()), "size": size}
    job = parse_job(words | {"seconds_per_slide": seconds})
    plan = plan_films(job, fetch_stills(job, settings=Settings(store=FOLDER)), output="/film.mp4")[0]
    path = FOLDER / f"{name}.yuv"
    frame = av.VideoFrame(job.width_px, job.height_px, "yuv420p")
    planes = plane_views(frame)
    with (
        path.open("wb") as file,
        FrameSource(
            plan.timeline, photo_paths=plan.photo_paths, width_px=job.width_px, height_px=job.height_px
        ) as source,
    ):
        drawn = [each for clip in plan.timeline.clips for each in range(clip.start_frame, clip.end_frame)[:most]]
        for number in drawn:
            source.draw(number, planes)
            for plane in planes:
                file.write(np.ascontiguousarray(plane))
    keyframes = [drawn.index(each) for segment in plan.segments for each in segment.keyframes if each in drawn]
    film = Film(name, path, job.width_px, job.height_px, len(drawn), tuple(keyframes))
    path.with_suffix(".json").write_text(json.dumps(asdict(film) | {"path": str(path)}))
    print(f"{path}: {film.frame_count} frames, {path.stat().st_size / 1e9:.1f} GB, IDRs at {keyframes}")


def load_film(name: str) -> Film:
    """Return a film that was drawn."""
    values = json.loads((FOLDER / f"{name}.json").read_text())
    return Film(**values | {"path": Path(values["path"]), "keyframes": tuple(values["keyframes"])})


def run(options: argparse.Namespace) -> None:
    """Encode with every contestant and append what came of it."""
    film = load_film(options.film)
    log = FOLDER / f"{options.film}.jsonl"
    known = {(one.contestant, one.crf): one.quality for one in load(log) if one.quality}
    contestants = [(name, float(crf)) for name in options.names for crf in options.crf.split(",")]

    with tempfile.TemporaryDirectory(dir=FOLDER) as folder, ThreadPoolExecutor(3) as pool:
        streams = [Path(folder, f"{number}.h264") for number in range(len(contestants))]
        for _ in range(options.rounds):
            made = encode(film, contestants, threads=options.threads, streams=streams)
            judged = pool.map(
                lambda one, stream: (
                    known.get((one.contestant, one.crf))
                    or measure_quality(
                        stream, film.path, size=f"{film.width_px}x{film.height_px}", subsample=options.subsample
                    )
                ),
                made,
                streams,
            )
            with log.open("a") as file:
                for one, quality in zip(made, judged, strict=True):
                    known[one.contestant, one.crf] = quality
                    file.write(json.dumps(asdict(replace(one, quality=quality))) + "\n")
                    print(line(replace(one, quality=quality), film), flush=True)


def encode(
    film: Film, contestants: Sequence[tuple[str, float]], *, threads: int, streams: Sequence[Path]
) -> list[Encode]:
    """Encode a film with all contestants side by side, in a process of their own."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(
        target=lambda: sender.send(_encode(film, contestants, threads, streams))
    )
    process.start()
    sender.close()
    try:
        return receiver.recv()
    finally:
        process.join()


def _encode(
    film: Film, contestants: Sequence[tuple[str, float]], threads: int, streams: Sequence[Path]
) -> list[Encode]:
    """Feed a run of frames to one encoder after the other, so that a busy machine slows all of them alike."""
    before = _resident_bytes()
    contexts = [open_context(film, name, crf=crf, threads=threads) for name, crf in contestants]
    spent = [0] * len(contexts)
    for context, stream in zip(contexts, streams, strict=True):
        stream.write_bytes(context.extradata or b"")
    frames = [av.VideoFrame(film.width_px, film.height_px, "yuv420p") for _ in range(TURN_FRAMES)]
    with film.path.open("rb", buffering=0) as raw:
        for start in range(0, film.frame_count, TURN_FRAMES):
            turn = frames[: film.frame_count - start]
            for number, frame in enumerate(turn, start):
                for plane in plane_views(frame):
                    plane[:] = np.frombuffer(raw.read(plane.size), np.uint8).reshape(plane.shape)
                frame.pts, frame.pict_type = number, number in film.keyframes
            last = [None] if start + TURN_FRAMES >= film.frame_count else []
            # Who comes first finds the frames in the cache: each does in turn.
            first = start // TURN_FRAMES % len(contexts)
            for index in [*range(first, len(contexts)), *range(first)]:
                with streams[index].open("ab") as out:
                    for frame in [*turn, *last]:
                        started_at = time.process_time_ns()
                        packets = contexts[index].encode(frame)
                        spent[index] += time.process_time_ns() - started_at
                        out.writelines(map(bytes, packets))
    # Of several side by side nobody can say whose memory it is.
    peak = _resident_bytes("VmHWM") - before if len(contexts) == 1 else 0
    return [
        Encode(name, crf, nanoseconds / 1e9, stream.stat().st_size, peak)
        for (name, crf), nanoseconds, stream in zip(contestants, spent, streams, strict=True)
    ]


def open_context(film: Film, contestant: str, *, crf: float, threads: int):
    """Return libx264 opened as a contestant wants it."""
    preset, *differing = contestant.split(",")
    if preset in list(Preset):
        ours = x264_options(replace(film.plan, preset=Preset(preset)))
        named, parameters = {"preset": ours.preset, "profile": ours.profile}, dict(ours.parameters)
    else:
        named, parameters = {"preset": preset}, dict(STREAM)
    parameters |= dict(each.split("=", 1) for each in differing)
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = film.width_px, film.height_px, "yuv420p"
    context.framerate, context.time_base = Fraction(30), Fraction(1, 30)
    context.thread_count = threads
    context.flags |= Flags.global_header
    # `tune` belongs beside the preset: x264 applies it before single options.
    if "tune" in parameters:
        named["tune"] = parameters.pop("tune")
    joined = ":".join(f"{key}={value}" for key, value in parameters.items())
    context.options = named | {"crf": str(crf), "forced-idr": "1", "x264-params": joined}
    context.open()
    return context


def _resident_bytes(name: str = "VmRSS") -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) << 10 if found else 0


def load(log: Path) -> list[Encode]:
    """Return every encode of a log."""
    if not log.exists():
        return []
    values = map(json.loads, log.read_text().splitlines())
    return [Encode(**each | {"quality": each["quality"] and Quality(**each["quality"])}) for each in values]


def line(one: Encode, film: Film) -> str:
    """Return one encode in words."""
    quality = one.quality
    assert quality
    return (
        f"{one.contestant:40} crf {one.crf:4.1f} {one.cpu_seconds / film.frame_count * 1e3:6.2f} ms "
        f"{one.stream_bytes / film.frame_count / 1e3:7.1f} kB VMAF {quality.vmaf:6.2f} 1% {quality.vmaf_low:6.2f} "
        f"CAMBI {quality.cambi:5.2f} worst {quality.cambi_worst:5.2f} PSNR {quality.psnr:5.2f} SSIM {quality.ssim:.4f} "
        f"{one.peak_bytes >> 20} MB"
    )


def print_table(name: str, *, vmaf: float, reference: str, only: Sequence[str]) -> None:
    """Print what every contestant costs at one VMAF, between two of its rate factors."""
    film = load_film(name)
    best: dict[tuple[str, float], Encode] = {}
    for one in load(FOLDER / f"{name}.jsonl"):
        known = best.get((one.contestant, one.crf))
        if known is None or one.cpu_seconds < known.cpu_seconds:
            best[one.contestant, one.crf] = one
    names = dict.fromkeys(one.contestant for one in best.values() if not only or one.contestant in only)
    rows = [(each, *at_vmaf([one for one in best.values() if one.contestant == each], vmaf)) for each in names]
    base = next((row for row in rows if row[0] == reference), rows[0])
    print(f"at VMAF {vmaf}: crf, CPU ms/frame, kB/frame, 1% low, PSNR, SSIM, MB; ratios to {base[0]}")
    for contestant, crf, seconds, size, low, psnr, ssim, peak in sorted(rows, key=lambda row: row[2]):
        print(
            f"{contestant:44} {crf:5.2f} {seconds / film.frame_count * 1e3:6.2f} ms"
            f" {size / film.frame_count / 1e3:6.1f} kB {low:5.1f} {psnr:5.2f} {ssim:.4f} {peak / 2**20:4.0f} MB"
            f"  cpu x{seconds / base[2]:.3f} bytes x{size / base[3]:.3f}"
        )


def at_vmaf(encodes: Iterable[Encode], vmaf: float) -> tuple[float, ...]:
    """Return rate factor, CPU-seconds, bytes, 1 % low, PSNR, SSIM and peak at a VMAF, by a line between two encodes.

    Bytes are interpolated by their logarithm. Outside of what was encoded, the line of the nearest two goes on.
    """
    ordered = sorted((one for one in encodes if one.quality), key=lambda one: -one.crf)
    if len(ordered) < 2:
        return tuple([math.nan] * 7)
    upper = next((i for i, one in enumerate(ordered) if one.quality.vmaf >= vmaf), len(ordered) - 1)
    low, high = ordered[max(upper, 1) - 1], ordered[max(upper, 1)]
    share = (vmaf - low.quality.vmaf) / (high.quality.vmaf - low.quality.vmaf)

    def between(first: float, last: float) -> float:
        return first + share * (last - first)

    return (
        between(low.crf, high.crf),
        between(low.cpu_seconds, high.cpu_seconds),
        math.exp(between(math.log(low.stream_bytes), math.log(high.stream_bytes))),
        between(low.quality.vmaf_low, high.quality.vmaf_low),
        between(low.quality.psnr, high.quality.psnr),
        between(low.quality.ssim, high.quality.ssim),
        max(low.peak_bytes, high.peak_bytes),
    )


if __name__ == "__main__":
    main()
