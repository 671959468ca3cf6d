"""Peak memory of an encoder session, with 12 photos and with 400."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.engine import EngineRun, run_engine
from benchmarks.films import Bench, fresh_folder, make_job, many_photos
from benchmarks.measurement import Measurement

__all__ = ["measure"]

MOST_RATIO, MOST_MB = 1.10, 400
SECONDS_A_SLIDE = 0.5


def measure(bench: Bench) -> Iterator[Measurement]:
    """Yield the session's peak with 400 photos, alone and over that with 12."""
    # Which decodings meet which moment of the encoder is chance, and twelve photos throw the dice less often.
    few = max((_run(bench, len(bench.photos)) for _ in range(bench.rounds + 1)), key=_session_bytes)
    many = _run(bench, 24 if bench.quick else 400)
    few_bytes, many_bytes = _session_bytes(few), _session_bytes(many)
    beside: dict[str, Any] = {
        name: run.cost.beside(
            session_pss_mb=round(_session_bytes(run) / 1e6),
            frames=run.frame_count,
            bytes=run.size_bytes,
            sessions=run.sessions,
        )
        for name, run in (("12 photos", few), ("400 photos" if not bench.quick else "24 photos", many))
    }
    beside["how"] = (
        f"fast, one session, {SECONDS_A_SLIDE:g} s a slide in both, the same 12 pictures by turns; "
        "PSS of the session's process every 50 ms"
    )
    value = max(few_bytes, many_bytes) / min(few_bytes, many_bytes) if min(few_bytes, many_bytes) else None
    name = "peak memory a session, 12 photos against 400"
    yield Measurement(name, value, MOST_RATIO, False, "x", beside, bench.quick)
    peak_mb = max(few_bytes, many_bytes) / 1e6
    yield Measurement("peak memory a session", peak_mb, MOST_MB, False, "MB", quick=bench.quick)


def _session_bytes(run: EngineRun) -> int:
    return run.cost.peak_session_pss_bytes


def _run(bench: Bench, count: int) -> EngineRun:
    folder = fresh_folder(f"memory-{count}")
    photos = [str(path) for path in many_photos(bench.photos)[:count]]
    job = make_job(folder / "film.mp4", preset="fast", photos=photos, seconds_per_slide=SECONDS_A_SLIDE, sessions=1)
    return run_engine(job, name=f"memory-{count}")
