"""The benchmark's own arithmetic: verdicts, costs of process trees, the reference, and who counts as busy."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks import process_tree
from benchmarks.film_queue import busy_share
from benchmarks.films import many_photos
from benchmarks.measurement import Measurement, print_table, ratio, write_results
from benchmarks.photos import PHOTO_COUNT, photo_megapixels
from benchmarks.process_tree import MemorySampler, run_contestant
from benchmarks.reference import _resampled, catmull_rom, psnr_db
from benchmarks.zoompan import _zoom_expression
from fanreel.segments.record import SegmentEvent


@pytest.mark.parametrize(
    ("value", "bound", "at_least", "verdict"),
    [
        (1.25, 1.25, True, "holds"),
        (1.2499, 1.25, True, "misses"),
        (1.5, 1.5, False, "holds"),
        (1.5001, 1.5, False, "misses"),
        (None, 1.5, False, "not measured"),
    ],
)
def test_a_verdict_is_of_the_figure_not_of_what_is_printed(
    value: float | None, bound: float, at_least: bool, verdict: str
) -> None:
    assert Measurement("a", value, bound, at_least, "x").verdict == verdict


def test_a_quick_run_never_says_that_a_bound_holds() -> None:
    assert Measurement("a", 99.0, 1.0, True, "x", quick=True).verdict == "quick, no verdict"


def test_a_ratio_is_of_the_least_of_each() -> None:
    assert ratio([6.0, 5.0, 9.0], [2.0, 4.0]) == 2.5
    with pytest.raises(ValueError, match="empty"):
        ratio([], [1.0])


def test_the_table_and_the_file_say_what_misses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow = Measurement("slow thing", 2.0, 1.5, False, "x", {"bytes": 1_234_567})
    rows = [slow, Measurement("b", 2.0, 1.5, True, "x")]
    print_table(rows)
    first, beside, second = capsys.readouterr().out.splitlines()
    assert first.startswith("misses")
    assert "at most 1.5" in first
    assert "1,234,567" in beside
    assert second.startswith("holds")
    write_results(tmp_path / "results.json", rows)
    written = json.loads((tmp_path / "results.json").read_text())
    assert [row["verdict"] for row in written["measurements"]] == ["misses", "holds"]
    assert written["machine"]["cores"] == len(os.sched_getaffinity(0))


# What a contestant costs


def test_the_cpu_time_of_grandchildren_counts(tmp_path: Path) -> None:
    burn = "import time\nend = time.process_time() + {0}\nwhile time.process_time() < end: pass\n"
    inner = tmp_path / "inner.py"
    inner.write_text(burn.format(0.6))
    outer = f"import subprocess, sys; subprocess.run([sys.executable, {str(inner)!r}], check=True); print('done')"
    cost = run_contestant([sys.executable, "-c", outer], env=dict(os.environ), cwd=tmp_path)
    assert cost.output == "done\n"
    assert 0.6 <= cost.cpu_seconds < 3
    assert cost.wall_seconds >= 0.6


def test_the_memory_of_the_whole_tree_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked, is_full, measure = tmp_path / "looked", tmp_path / "is-full", process_tree.pss_bytes

    def measure_and_tell(pid: int) -> int:
        was_full = is_full.exists()
        size = measure(pid)
        if was_full and size > 55e6:
            looked.touch()
        return size

    monkeypatch.setattr(process_tree, "pss_bytes", measure_and_tell)
    # It holds its memory until it has been looked at.
    wait = f"pathlib.Path({str(is_full)!r}).touch()\nwhile not os.path.exists({str(looked)!r}): time.sleep(0.01)"
    held = f"import os, pathlib, time\nheld = bytearray(b'x') * 60_000_000\n{wait}"
    start = f"subprocess.run([sys.executable, '-c', {held!r}])"
    outer = f"import subprocess, sys; mine = bytearray(b'y') * 40_000_000; {start}"
    cost = run_contestant([sys.executable, "-c", outer], env=dict(os.environ), cwd=tmp_path, limit_seconds=60)
    assert 100e6 <= cost.peak_pss_bytes < 160e6
    assert cost.peak_session_pss_bytes == 0


def test_a_contestant_that_fails_is_no_figure(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"ended with 3.*\n.*gave up"):
        run_contestant([sys.executable, "-c", "print('gave up'); exit(3)"], env=dict(os.environ), cwd=tmp_path)


def test_a_contestant_that_hangs_is_killed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="killed at its limit"):
        run_contestant(["sleep", "60"], env=dict(os.environ), cwd=tmp_path, limit_seconds=0.3)


def test_a_sampler_of_a_process_that_is_gone_sees_nothing() -> None:
    with MemorySampler(2**22 + 1) as memory:
        pass
    assert memory.peak_bytes == 0


# The reference


def test_the_kernel_is_catmull_roms() -> None:
    assert catmull_rom(np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0])).tolist() == [1, 0.5625, 0, -0.0625, 0, 0]


def test_a_ramp_stays_a_ramp_where_it_is_sampled_anew() -> None:
    ramp = np.arange(200.0)[:, None]
    # Widened, the kernel's samples keep a slope only nearly: Catmull-Rom's own property ends at step 1.
    for step, tolerance in ((0.7, 1e-9), (1.0, 1e-9), (2.5, 0.02)):
        out = _resampled(ramp, 40.0, step, 30)[:, 0]
        assert out == pytest.approx(40 + (np.arange(30) + 0.5) * step - 0.5, abs=tolerance)


def test_at_step_one_the_reference_is_the_photo() -> None:
    values = np.random.default_rng(3).random((40, 7))
    assert _resampled(values, 5.0, 1.0, 20) == pytest.approx(values[5:25], abs=1e-12)


def test_psnr_of_an_error_of_one_code() -> None:
    assert psnr_db(1.0) == pytest.approx(48.1308, abs=1e-4)


def test_zoompans_expression_is_our_move() -> None:
    # zoompan gives x and y as iw/zoom: the view's width, which the camera moves evenly.
    for zooms_in, ends in ((True, (1.0, 1.3)), (False, (1.3, 1.0))):
        text = _zoom_expression(121, zooms_in=zooms_in)
        first, half, last = (eval(text, {"on": on}) for on in (0, 60, 120))
        assert (first, last) == pytest.approx(ends)
        assert 1 / half == pytest.approx((1 + 1 / 1.3) / 2)


# What is measured


def test_the_photos_are_of_twelve_to_twenty_four_megapixels() -> None:
    sizes = [photo_megapixels(index) for index in range(PHOTO_COUNT)]
    assert len({round(size, 6) for size in sizes}) == PHOTO_COUNT == 12
    assert 12 < min(sizes) < 12.5
    assert 23.5 < max(sizes) < 24


def test_many_photos_are_of_different_bytes_and_the_same_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cv2

    monkeypatch.setattr("benchmarks.films.BENCH", tmp_path)
    photos = []
    for seed in range(2):
        photos.append(tmp_path / f"{seed}.jpg")
        picture = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8)
        cv2.imwrite(str(photos[-1]), picture)
    many = many_photos(photos, count=5)
    assert len({path.read_bytes() for path in many}) == 5
    for index, path in enumerate(many):
        assert np.array_equal(cv2.imread(str(path)), cv2.imread(str(photos[index % 2])))


def test_a_session_is_busy_once_however_its_segments_overlap() -> None:
    def event(session: int, start: float, end: float) -> SegmentEvent:
        return SegmentEvent(host="here", session=session, started_at=start, ended_at=end)

    # One session from 0 to 6 (segments that overlap), another one from 5 to 10: 11 of 2 x 10 seconds.
    events = [event(1, 0, 4), event(1, 3, 6), event(2, 5, 10)]
    assert busy_share(events, slots=2) == pytest.approx(0.55)
    assert busy_share([event(1, 0, 10), event(2, 0, 10)], slots=2) == 1.0
