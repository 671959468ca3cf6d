import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llvmlite import binding

from fanreel.draw.resample import AxisMap, BorderedPlane, Resampler, warm
from fanreel.draw.resample_blocks import UNIT
from fanreel.draw.resample_kernels import kernel

STEPS = (0.05, 0.3, 0.77, 1.0, 1.15, 1.3, 1.7, 2.0, 2.3, 2.5, 5.0, 8.0)


@pytest.fixture(scope="module", autouse=True)
def compiled():
    warm()


def render(source, x, y, height, width):
    """The resampler's picture of an upright source."""
    out = np.empty((height, width), np.uint8)
    Resampler(height=height, width=width).resample(BorderedPlane.copy_of(source), x=x, y=y, out=out)
    return out


def exact_taps(axis, count, size, widest):
    """Rows and float weights of the kernel; `widest` is how far it may be widened."""
    scale = min(max(axis.step, 1.0), widest)
    half = int(np.ceil(2 * scale))
    position = axis.origin + axis.step * np.arange(count)
    rows = np.floor(position).astype(int) + np.arange(1 - half, half + 1)[:, None]
    d = np.abs(rows - position) / scale
    weights = np.where(d < 1, 1.5 * d**3 - 2.5 * d**2 + 1, np.where(d < 2, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2, 0))
    return np.clip(rows, 0, size - 1), weights / weights.sum(axis=0)


def exact(source, x, y, height, width, widest=np.inf):
    """What float64 gives, before rounding."""
    columns, column_weights = exact_taps(x, width, source.shape[1], widest)
    rows, row_weights = exact_taps(y, height, source.shape[0], widest)
    values = source.astype(np.float64)
    across = sum(values[:, at] * weight for at, weight in zip(columns, column_weights, strict=True))
    return sum(across[at] * weight[:, None] for at, weight in zip(rows, row_weights, strict=True))


def rounded(values):
    return np.clip(np.floor(values + 0.5), 0, 255)


def psnr(error):
    return 10 * np.log10(255**2 / max(np.mean(error**2), 1e-12))


def noise(height, width, seed=0):
    """Full-range noise: every kernel overshoots on it."""
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def smooth(height, width):
    """A picture with limited range, slopes, edges and fine texture."""
    down, across = np.mgrid[:height, :width]
    waves = 60 * np.sin(down / 7.3) * np.cos(across / 11.1) + 25 * np.sin(across * 0.9 + down * 0.4)
    return np.clip(120 + waves + 50 * ((across // 37 + down // 23) % 2), 16, 235).astype(np.uint8)


def test_the_identity_copies_exactly():
    source = noise(270, 480)
    assert np.array_equal(render(source, AxisMap(0, 1), AxisMap(0, 1), *source.shape), source)


def test_a_shift_by_whole_samples_copies_exactly_and_repeats_the_edge():
    source = noise(90, 120)
    moved = render(source, AxisMap(-7, 1), AxisMap(5, 1), 90, 120)
    assert np.array_equal(moved, np.pad(source, ((0, 5), (7, 0)), mode="edge")[5:, :120])


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("picture", [smooth, noise])
def test_it_is_the_float_kernel_rounded(step, picture):
    source = picture(430, 610)
    x, y = AxisMap(3.3, step), AxisMap(-1.71, step * 0.983)
    height, width = min(700, int(400 / step)), min(900, int(590 / step))
    error = render(source, x, y, height, width) - rounded(exact(source, x, y, height, width))
    assert psnr(error) > 59
    assert np.abs(error).max() <= 1


def test_it_is_exact_in_large_and_far_outside():
    source = smooth(1500, 1300)
    for x, y in [(AxisMap(0.2, 1.25), AxisMap(9.7, 1.31)), (AxisMap(-900.4, 2.6), AxisMap(-40.3, 0.4))]:
        error = render(source, x, y, 1090, 1000) - rounded(exact(source, x, y, 1090, 1000))
        assert np.abs(error).max() <= 1
    corner = render(source, AxisMap(1e18, 1.1), AxisMap(-1e300, 0.5), 3, 4)
    assert (corner == source[0, -1]).all()


@pytest.mark.parametrize("height", [1, 2, 3, 5, 63, 64, 65, 127, 129, 333])
@pytest.mark.parametrize("width", [1, 2, 47])
def test_sources_of_any_size(height, width):
    source = noise(height, width, seed=height)
    for x, y in [(AxisMap(-1.3, 0.37), AxisMap(-2.6, 0.71)), (AxisMap(0.4, 1.2), AxisMap(-3.1, 3.4))]:
        error = render(source, x, y, 101, 67) - rounded(exact(source, x, y, 101, 67))
        assert np.abs(error).max() <= 1


@pytest.mark.parametrize("step", [*STEPS, 21.0])
def test_a_constant_plane_stays_constant(step):
    resampler, out = Resampler(height=60, width=70), np.empty((60, 70), np.uint8)
    for value in range(256):
        source = BorderedPlane.copy_of(np.full((110, 130), value, np.uint8))
        resampler.resample(source, x=AxisMap(-3.77, step), y=AxisMap(1.13, step), out=out)
        assert (out == value).all(), value


@pytest.mark.parametrize("width", [1, 31, 64, 100, 479, 481])
def test_padding_is_left_alone(width):
    source = noise(300, 700)
    frame = np.full((210, width + 29), 77, np.uint8)
    out = frame[5:205, :width]
    x, y = AxisMap(1.1, 1.2), AxisMap(2.2, 1.3)
    Resampler(height=200, width=width).resample(BorderedPlane.copy_of(source), x=x, y=y, out=out)
    assert np.array_equal(out, render(source, x, y, 200, width))
    assert (frame[:5] == 77).all()
    assert (frame[205:] == 77).all()
    assert (frame[:, width:] == 77).all()


def zone_plate(size):
    """Rings whose frequency grows from 0 in the corner to Nyquist along either edge."""
    squares = np.arange(size) ** 2 / (2 * size)
    return np.floor(128 + 100 * np.cos(np.pi * (squares[:, None] + squares))).astype(np.uint8)


def remaining_energy(picture, source, step):
    """Energy of `picture` over what an ideal low-pass leaves of a zone plate, which has all frequencies alike."""
    return picture.astype(float).var() / (source.astype(float).var() / step**2)


@pytest.mark.parametrize("step", [1.05, 1.1, 1.3, 1.6, 2.0, 2.5, 3.0, 4.0, 5.0])
def test_a_zone_plate_does_not_alias(step):
    # An ideal low-pass leaves 1. The widened kernel's slope leaves 2/3 at every step; more would be aliases.
    source, axis = zone_plate(800), AxisMap(0.5 * step - 0.5, step)
    count = int(800 / step)
    assert remaining_energy(render(source, axis, axis, count, count), source, step) < 0.69
    plain = rounded(exact(source, axis, axis, count, count, widest=1.0))
    assert remaining_energy(plain, source, step) > 0.72, "the measure does not see aliases"


MAPS = st.builds(AxisMap, st.floats(-300, 300), st.floats(0.05, 9.0))
WORN = Resampler(height=77, width=101)
PLANES = [BorderedPlane.copy_of(noise(140, width, seed=width)) for width in (201, 90)]


@settings(max_examples=60, deadline=None)
@given(x=MAPS, y=MAPS, other=MAPS, plane=st.sampled_from(PLANES))
def test_what_was_rendered_before_leaves_no_trace(x, y, other, plane):
    fresh, worn, larger = (np.empty(shape, np.uint8) for shape in ((77, 101), (77, 101), (90, 130)))
    Resampler(height=77, width=101).resample(plane, x=x, y=y, out=fresh)
    WORN.resample(PLANES[0], x=other, y=x, out=worn)
    WORN.resample(plane, x=x, y=y, out=worn)
    Resampler(height=90, width=130).resample(plane, x=x, y=y, out=larger)
    assert np.array_equal(worn, fresh)
    assert np.array_equal(larger[:77, :101], fresh)


@pytest.mark.parametrize("step", [0.8, 1.0, 1.3])
def test_an_edge_moves_by_fractions_of_a_sample(step):
    source = np.empty((40, 200), np.uint8)
    source[:] = np.round(20 + 200 / (1 + np.exp(-(np.arange(200) - 100) / 2.0)))
    for shift in np.arange(0, 3, 0.07):
        x = AxisMap(shift, step)
        line = render(source, x, AxisMap(0, 1), 8, 150)[3].astype(float)
        bright = (line - line[0]) / (line[-1] - line[0])
        edge = 150 - 0.5 - bright.sum()
        assert abs(edge - (100 - x.origin) / step) < 0.02


HASH = """
import hashlib, json, numpy as np
from fanreel.draw.resample_kernels import kernel
from fanreel.draw.resample import AxisMap, BorderedPlane, Resampler
source = BorderedPlane.copy_of(np.random.default_rng(5).integers(0, 256, (431, 613), dtype=np.uint8))
out, digest = np.empty((301, 517), np.uint8), hashlib.sha256()
for number in range(60):
    x, y = AxisMap(0.37 * number - 3, 0.061 * number + 0.05), AxisMap(-0.73 * number, 0.057 * number + 0.07)
    Resampler(height=301, width=517).resample(source, x=x, y=y, out=out)
    digest.update(out)
"""
REPORT = """
code = kernel().inspect_asm()[kernel().signatures[0]]
print(json.dumps([digest.hexdigest(), 'zmm' in code, 'ymm' in code]))
"""


def masked(*prefixes):
    """This CPU's features without those that begin with one of `prefixes`."""
    features = binding.get_host_cpu_features()
    return ",".join(f"{'-' if name.startswith(prefixes) or not on else '+'}{name}" for name, on in features.items())


@pytest.mark.soak  # compiles for each; the law of frames has two CPUs in every run
def test_every_cpu_makes_the_same_bytes(tmp_path):
    cpus = {
        "no AVX-512": {"NUMBA_CPU_NAME": binding.get_host_cpu_name(), "NUMBA_CPU_FEATURES": masked("avx512")},
        "no AVX2": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
    }
    runs = {}
    for name, cpu in cpus.items():
        environment = {**os.environ, **cpu, "NUMBA_CACHE_DIR": str(tmp_path / name)}
        command = [sys.executable, "-c", HASH + REPORT]
        runs[name] = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    here: dict = {}
    exec(HASH, here)
    answers = {name: json.loads(run.communicate(timeout=200)[0]) for name, run in runs.items()}
    expected = here["digest"].hexdigest()
    assert [answer[0] for answer in answers.values()] == [expected, expected]
    assert not answers["no AVX-512"][1]
    assert answers["no AVX2"][1:] == [False, False]


def test_weights_add_up_to_the_unit():
    resampler, source = Resampler(height=90, width=90), BorderedPlane.copy_of(noise(50, 500))
    out = np.empty((90, 90), np.uint8)
    for step in (*np.arange(0.9, 4.3, 0.037), 1.0, 1.5, 2.0, 2.5):
        resampler.resample(source, x=AxisMap(-5.123, step), y=AxisMap(0.3, 1), out=out)
        (_, columns), _, (_, rows) = resampler._tables
        assert (columns.sum(axis=0) == UNIT).all()
        assert (rows.sum(axis=0) == UNIT).all()


@pytest.mark.parametrize("gap", [2, 3, 200])
def test_what_a_block_reads_stays_within_the_border(gap):
    # Beyond the border lies the next row, of another value: had it any weight, it would show.
    rows = np.arange(0, 180, 20, dtype=np.uint8)[:, None]
    source = BorderedPlane.copy_of(np.repeat(rows, 300, axis=1))
    for step in (0.01, 1.0, 1.5, 2.0, 3.0, 4.0):
        for origin in (-gap * 300.0, -gap, 300.0 - gap, gap * 300.0):
            out = np.empty((9, 37), np.uint8)
            Resampler(height=9, width=37).resample(source, x=AxisMap(origin, step), y=AxisMap(0, 1), out=out)
            assert (out == out[:, :1]).all(), (step, origin)
            assert step > 1 or (out == rows).all(), origin


def test_other_threads_run_meanwhile(monkeypatch):
    source, spans = noise(4000, 4000), []

    def timed(*arguments):
        started = time.perf_counter()
        kernel()(*arguments)
        spans.append((started, time.perf_counter()))

    kernel()
    monkeypatch.setattr("fanreel.draw.resample.kernel", lambda: timed)

    def ticks_inside():
        """How often this thread ran while another one was well inside the kernel, which is one call."""
        thread = threading.Thread(target=render, args=(source, AxisMap(0, 2.6), AxisMap(0, 2.6), 1500, 1500))
        thread.start()
        ticks = []
        while thread.is_alive():
            ticks.append(time.perf_counter())
            time.sleep(0)
        started, ended = spans[-1]
        margin = (ended - started) / 4
        return sum(started + margin < tick < ended - margin for tick in ticks)

    # Were they shut out, there would be none, however often it is tried; a busy core may give them none for a while.
    assert any(ticks_inside() >= 10 for _ in range(50))


def test_importing_starts_no_thread():
    count = "len(os.listdir('/proc/self/task'))"
    code = f"import os, numpy; before = {count}; import fanreel.draw.resample; print({count} - before)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "0"


@pytest.mark.parametrize(("origin", "step"), [(0, 0), (0, -1), (0, float("inf")), (float("nan"), 1), (0, float("nan"))])
def test_a_map_must_be_finite_and_go_forward(origin, step):
    with pytest.raises(ValueError, match="is no map"):
        AxisMap(origin, step)


@pytest.mark.parametrize(
    ("source", "out"),
    [
        (np.zeros((9, 137), np.uint8), np.zeros((9, 8), np.uint8)),
        (np.zeros((9, 137), np.uint8), np.zeros((8, 18), np.uint8)[:, ::2]),
        (np.zeros((9, 137), np.uint8), np.zeros((8, 9), np.int8)),
        (np.zeros((9, 137), np.uint16), np.zeros((8, 9), np.uint8)),
        (np.zeros((9, 274), np.uint8)[:, ::2], np.zeros((8, 9), np.uint8)),
        (np.zeros((9, 128), np.uint8), np.zeros((8, 9), np.uint8)),
        (np.zeros((0, 137), np.uint8), np.zeros((8, 9), np.uint8)),
    ],
)
def test_arrays_of_another_kind_are_refused(source, out):
    with pytest.raises(ValueError, match="not"):
        Resampler(height=8, width=9).resample(BorderedPlane(source), x=AxisMap(0, 1), y=AxisMap(0, 1), out=out)


def test_a_read_only_source_is_read():
    source = BorderedPlane.copy_of(noise(30, 20))
    source.bordered.flags.writeable = False
    out = np.empty((30, 20), np.uint8)
    Resampler(height=30, width=20).resample(source, x=AxisMap(0, 1), y=AxisMap(0, 1), out=out)
    assert np.array_equal(out, source.samples)
