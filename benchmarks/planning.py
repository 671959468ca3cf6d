"""Planning 400 photos that were not seen before, hashing included, against reading their bytes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.films import Bench, fresh_folder, make_job, many_photos, plan_of
from benchmarks.measurement import Measurement, ratio
from fanreel.intake.sources import READERS

__all__ = ["measure"]

MOST = 1.5
ROUNDS = 3


def measure(bench: Bench) -> Iterator[Measurement]:
    """Yield the ratio with the bytes in the page cache, and from the disk."""
    photos = many_photos(bench.photos)[: 24 if bench.quick else None]
    folder = fresh_folder("planning")
    job = make_job(folder / "film.mp4", preset="fast", photos=[str(path) for path in photos])
    size_bytes = sum(path.stat().st_size for path in photos)
    contestants: dict[str, Callable[[], object]] = {
        "planned": lambda: plan_of(job),
        "read": lambda: _read(photos),
    }
    _read(photos)
    for name, prepare in (("in the page cache", lambda: None), ("from the disk", lambda: _forget(photos))):
        seconds: dict[str, list[float]] = {contestant: [] for contestant in contestants}
        for _ in range(ROUNDS):
            for contestant, run in contestants.items():
                prepare()
                started_at = time.perf_counter()
                run()
                seconds[contestant].append(time.perf_counter() - started_at)
        beside = {
            "planned": f"{min(seconds['planned']):.3f} s",
            "read": f"{min(seconds['read']):.3f} s, {size_bytes / min(seconds['read']) / 1e9:.2f} GB/s",
            "bytes": size_bytes,
            "how": f"{len(photos)} photos, {READERS} threads each, least of {ROUNDS} rounds in turns",
        }
        value = ratio(seconds["planned"], seconds["read"])
        yield Measurement(f"{len(photos)} photos planned / read, {name}", value, MOST, False, "x", beside, bench.quick)


def _read(photos: Sequence[Path]) -> int:
    with ThreadPoolExecutor(READERS) as pool:
        return sum(pool.map(lambda path: len(path.read_bytes()), photos))


def _forget(photos: Sequence[Path]) -> None:
    """Have the kernel drop what it caches of the files; what is not on the disk yet goes there first."""
    for path in photos:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
