"""The join of 1,080 segments against a plain copy of the same bytes."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from blake3 import blake3

from benchmarks.films import Bench, fresh_folder, host_in, make_job, plan_of
from benchmarks.measurement import Measurement, ratio
from benchmarks.process_tree import MemorySampler
from fanreel.host.host import Host
from fanreel.join.concat import concat_segments
from fanreel.plan.film import FilmPlan
from fanreel.plan.segments import Segment
from fanreel.plan.shards import Shard
from fanreel.plan.timeline import Clip
from fanreel.render.draft import join_film
from fanreel.render.shard import render_shard
from fanreel.segments.record import SegmentRecord
from fanreel.store.local import LocalStore

__all__ = ["measure"]

MOST = 1.5
SEGMENTS, SEGMENT_SECONDS = 1080, 20
DISTINCT = 6
KEYFRAMES_A_CLIP = 3  # of 10 s: the planner's are at most 4 s apart
QUALITY = 40  # some 3 to 4 GB in all, which fits the page cache of most machines: the disk is not what is measured
STEP_BYTES = 1 << 30
SLOW_SECONDS = 1.0


def measure(bench: Bench) -> Iterator[Measurement]:
    """Yield the join's time over the copy's; then whether it logs and warns as it should."""
    folder = fresh_folder("join")
    host = host_in(folder)
    few = _few_segments(bench, folder, host)
    plan = _many_segments(few, folder, host, count=60 if bench.quick else SEGMENTS)
    records = [host.store.read_record(segment.address) for segment in plan.segments]
    seconds: dict[str, list[float]] = {"join": [], "copy": []}
    for number in range(bench.rounds + 2):
        # Whoever writes second has a disk and a page cache that the first has filled: turns begin with either, each
        # on a disk that is done with the one before.
        for name in ("join", "copy")[:: -1 if number % 2 else 1]:
            target = folder / f"{name}.bin"
            os.sync()
            if name == "join":
                run = partial(concat_segments, target, plan=plan, records=records, store=host.store)
            else:
                run = partial(_copy, target, records, host.store)
            seconds[name].append(_timed(run))
            size_bytes = target.stat().st_size
            target.unlink()
    joins, copies = seconds["join"], seconds["copy"]
    with _Lines() as lines, MemorySampler(os.getpid()) as memory:
        whole = _timed(lambda: join_film(plan, host=host, folder=folder))
    (folder / "film.mp4").unlink()
    warning = _slow_join(few, folder, host)
    beside = {
        "join": f"{min(joins):.2f} s, {size_bytes / min(joins) / 1e6:.0f} MB/s",
        "copy": f"{min(copies):.2f} s",
        "rounds": {"join": [round(each, 2) for each in joins], "copy": [round(each, 2) for each in copies]},
        "join, records, certificate and proof": f"{whole:.1f} s",
        "pss_mb": round(memory.peak_bytes / 1e6),
        "bytes": size_bytes,
        "the log says": lines.joined or "NOTHING",
        "the log of a store made slow says": warning or "NOTHING",
        "how": f"{len(records)} segments in files of their own, {len({r.payload_digest for r in records})} different "
        f"contents; both use copy_file_range and fsync, least of {len(joins)} rounds, begun by either in turns",
    }
    film = f"{plan.seconds / 3600:.1f} hours"
    name = f"join of {len(records)} segments ({film}) / a plain copy of the same bytes"
    yield Measurement(name, ratio(joins, copies), MOST, False, "x", beside, bench.quick)
    said = float(bool(lines.joined) and warning.startswith("WARNING"))
    yield Measurement("the join logs its size and time, and warns when slow", said, 1, True, "", {}, bench.quick)


def _few_segments(bench: Bench, folder: Path, host: Host) -> FilmPlan:
    """Render some segments of 20 s. The planner cuts after 10 s, so two of its own are made as one."""
    photos = [str(path) for path in bench.photos[: 4 if bench.quick else 2 * DISTINCT]]
    seconds = bench.seconds(SEGMENT_SECONDS / 2)
    words = {"photos": photos, "seconds_per_slide": seconds, "move": "zoom-in"}
    plan = plan_of(make_job(folder / "few.mp4", preset="draft", quality=QUALITY, **words))
    merged = [_merged(index, *plan.timeline.clips[2 * index :][:2]) for index in range(len(photos) // 2)]
    try:
        render_shard(replace(plan, segments=tuple(merged)), Shard(0, tuple(merged)), threads=2, host=host)
    finally:
        host.launcher.close()
    return replace(plan, segments=tuple(merged))


def _merged(index: int, first: Clip, second: Clip) -> Segment:
    """Return a segment of two clips, each with keyframes as far apart as the planner puts them."""
    keyframes = [
        clip.start_frame + part * clip.frame_count // KEYFRAMES_A_CLIP
        for clip in (first, second)
        for part in range(KEYFRAMES_A_CLIP)
    ]
    address = blake3(f"{first.content.photo.digest} {second.content.photo.digest}".encode()).hexdigest()
    return Segment(index, first.start_frame, second.end_frame, tuple(keyframes), address, address, "by hand")


def _many_segments(few: FilmPlan, folder: Path, host: Host, *, count: int) -> FilmPlan:
    """Return a film of many segments, all in the store: a few real ones, each copied to new addresses."""
    segments, start = [], 0
    for index in range(count):
        source = few.segments[index % len(few.segments)]
        record = host.store.read_record(source.address)
        address = blake3(f"{source.address} {index}".encode()).hexdigest()
        part = folder / "part.mp4"
        shutil.copyfile(host.store.local_copy(record), part)
        host.store.put(replace(record, address=address), part)
        segments.append(_moved(source, index=index, start=start, address=address))
        start += source.frame_count
    clip = replace(few.timeline.clips[0], start_frame=0, end_frame=start)
    return replace(few, segments=tuple(segments), timeline=replace(few.timeline, clips=(clip,)))


def _moved(segment: Segment, *, index: int, start: int, address: str) -> Segment:
    by = start - segment.start_frame
    return replace(
        segment,
        index=index,
        start_frame=start,
        end_frame=segment.end_frame + by,
        keyframes=tuple(frame + by for frame in segment.keyframes),
        address=address,
    )


def _timed(run) -> float:
    started_at = time.perf_counter()
    run()
    return time.perf_counter() - started_at


def _copy(target: Path, records: Sequence[SegmentRecord], store: LocalStore) -> None:
    """Copy the segments' payloads, one after another, as fast as the kernel can."""
    with target.open("xb") as out:
        for record in records:
            with store.local_copy(record).open("rb", buffering=0) as source:
                position, left = record.payload_offset, record.payload_bytes
                while left:
                    moved = os.copy_file_range(source.fileno(), out.fileno(), min(left, STEP_BYTES), position)
                    position, left = position + moved, left - moved
        os.fsync(out.fileno())


class _Lines(logging.Handler):
    """Keeps the lines that the join logs."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.joined = ""
        self._logger = logging.getLogger("fanreel.render.draft")

    def __enter__(self):
        self._level = self._logger.level
        self._logger.setLevel(logging.INFO)
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(self._level)

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("joined "):
            self.joined = f"{record.levelname} {record.getMessage()}"


class _SlowStore(LocalStore):
    """A store whose every file takes long to come: emulated, as no slow disk is at hand."""

    def local_copy(self, record: SegmentRecord) -> Path:
        time.sleep(SLOW_SECONDS)
        return super().local_copy(record)


def _slow_join(plan: FilmPlan, folder: Path, host: Host) -> str:
    """Return what the join of the few segments logs when their store is slow."""
    with _Lines() as lines:
        join_film(plan, host=replace(host, store=_SlowStore(folder / "store")), folder=folder)
    return lines.joined
