"""The one place that reaches further than numba's public interface, and the cache of what it emits."""

import ast
import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import llvmlite
import numba
import numpy as np
import pytest
from llvmlite import binding

from fanreel.draw import bt709, resample_blocks, resample_kernels
from fanreel.draw.resample_blocks import BLENDED, SCALED, UNIT, blend_block, items, row_address, scale_block

CURE = (
    f"numba {numba.__version__} with llvmlite {llvmlite.__version__} does not give what fanreel/draw/resample_blocks.py"
    " takes from it beyond its public interface. Its docstring lists what that is: mend that module for this version,"
    " until this test and the golden frames pass, or lower the upper bound in pyproject.toml"
)


@contextlib.contextmanager
def contract():
    try:
        yield
    except Exception as error:
        raise AssertionError(CURE) from error


@numba.njit
def scale(source, firsts, masks, pairs, ring, like):
    rows = row_address(source, np.uint64(1)), row_address(source, np.uint64(3))
    tables = (row_address(firsts, np.uint64(0)), row_address(masks, np.uint64(0)), row_address(pairs, np.uint64(0)))
    scale_block(rows, tables, (row_address(ring, np.uint64(2)), row_address(ring, np.uint64(0))), like)


@numba.njit
def blend(ring, shares, out, like):
    taps = np.empty((2, len(like)), np.uint64)
    for k in range(len(like)):
        taps[0, k], taps[1, k] = row_address(ring, np.uint64(k)), np.uint64(np.int64(shares[k]))
    read, weights = items(row_address(taps, np.uint64(0)), like), items(row_address(taps, np.uint64(1)), like)
    blend_block(read, np.uint64(2 * SCALED), weights, row_address(out, np.uint64(1)))


def scaled(source, firsts, offsets, weights):
    """What `scale_block` makes of a row: int16, one for each output."""
    at = firsts[np.arange(SCALED) // 4] + offsets
    values = source[at + np.arange(len(weights))[:, None]].astype(np.int64)
    return ((values * weights).sum(axis=0) >> 8).astype(np.int16)


@pytest.mark.parametrize("taps", resample_kernels.TAP_COUNTS)
def test_what_is_taken_from_numba_beyond_its_public_interface_is_there(taps):
    rng, like, slots = np.random.default_rng(taps), (0,) * taps, [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15]
    source = rng.integers(0, 256, (4, 99), np.uint8)
    firsts, offsets = rng.integers(0, 60, 4, np.uint32), rng.integers(0, 16 - min(taps, 8), SCALED, np.uint32)
    weights = rng.integers(-2000, 2000, (taps, SCALED), np.int16)
    masks, pairs = np.empty((1, SCALED), np.uint32), np.empty((1, taps // 2 * SCALED), np.uint32)
    masks[0, slots] = offsets | offsets + 1 << 16 | 0x80008000
    for pair, (near, far) in enumerate(weights.view(np.uint16).reshape(-1, 2, SCALED).astype(np.uint32)):
        pairs[0, pair * SCALED + np.array(slots)] = near | far << 16
    ring = np.zeros((3, SCALED), np.int16)
    with contract():
        scale(source, firsts[None], masks, pairs, ring, like)
    assert np.array_equal(ring[2], scaled(source[1], firsts, offsets, weights)), CURE
    assert np.array_equal(ring[0], scaled(source[3], firsts, offsets, weights)), CURE
    assert not ring[1].any()

    ring, out = rng.integers(0, 64 * 256, (taps, 64), np.int16), np.zeros((3, BLENDED + 1), np.uint8)
    shares = rng.integers(-UNIT // 4, UNIT // 2, taps, np.int16)
    with contract():
        blend(ring, shares, out, like)
    parts = ring[:, SCALED : SCALED + BLENDED].astype(int) * shares[:, None]
    expected = np.clip((((parts >> 14) + 1 >> 1).sum(axis=0) + 16).astype(np.int16) >> 5, 0, 255)
    assert np.array_equal(out[1, :BLENDED], expected), CURE
    assert not out[[0, 2]].any()
    assert not out[1, BLENDED]

    if binding.get_host_cpu_features().get("avx2"):
        code = "".join(text for function in (scale, blend) for text in function.inspect_asm().values())
        missing = [name for name in ("vpshufb", "vpmaddwd", "vpackssdw", "vpmulhrsw", "vpackuswb") if name not in code]
        assert not missing, CURE


# What numba keeps

LOAD = """
import os
from numba.core import event
from fanreel.draw import bt709, resample_kernels

class Ended(event.Listener):
    def on_start(self, started):
        print("is compiled anew", flush=True)
        os._exit(0)

    def on_end(self, ended):
        pass

event.register("numba:compile", Ended())
for module in (bt709, resample_kernels):
    print(module.kernel().stats.cache_hits.total(), end=" ", flush=True)
"""


@pytest.mark.parametrize(
    ("name", "before", "after", "answer"),
    [
        pytest.param("resample.py", "uint8", "int16", "1 1", id="no source"),
        pytest.param("resample_blocks.py", "UNIT = 1 << 14", "UNIT = 1 << 13", "1 is compiled anew", id="blocks"),
        pytest.param("resample_kernels.py", "BORDER = 64", "BORDER = 96", "is compiled anew", id="border"),
        pytest.param("bt709.py", "_BITS = 16", "_BITS = 15", "is compiled anew", id="bt709"),
    ],
)
def test_a_kernel_is_compiled_anew_exactly_when_one_of_its_sources_changed(tmp_path, name, before, after, answer):
    draw = tmp_path / "fanreel/draw"
    shutil.copytree(Path(bt709.__file__).parents[1], tmp_path / "fanreel", ignore=shutil.ignore_patterns("__pycache__"))
    (draw / "__pycache__").mkdir()
    for module in (bt709, resample_kernels):
        for kept in Path(module.kernel().stats.cache_path).glob(f"{module.__name__.rpartition('.')[2]}.*.nb?"):
            shutil.copy2(kept, draw / "__pycache__")
    path, written = draw / name, (draw / name).stat()
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))  # neither time nor length tells
    assert path.stat().st_size == written.st_size
    environment = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}
    found = subprocess.check_output([sys.executable, "-c", LOAD], cwd=tmp_path, text=True, env=environment)
    assert found.strip() == answer


@pytest.mark.parametrize("module", [resample_kernels, bt709])
def test_every_source_of_a_kernel_is_in_its_key(module):
    path = Path(module.__file__)
    tree = ast.parse(path.read_text())
    (key,) = [
        {argument.value for argument in node.args}
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "hash_sources"
    ]
    origins = {
        alias.name: f"{node.module.rpartition('.')[2]}.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("fanreel.")
        for alias in node.names
    }
    compiled = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and any("njit" in ast.unparse(each) for each in node.decorator_list)
    ]
    used = {node.id for function in compiled for node in ast.walk(function) if isinstance(node, ast.Name)}
    assert compiled
    assert key >= {path.name, *(origin for name, origin in origins.items() if name in used)}


def test_blocks_are_made_of_nothing_else_of_ours():
    # Else what they import would belong into the key as well.
    assert "fanreel" not in "\n".join(
        line for line in Path(resample_blocks.__file__).read_text().splitlines() if "import " in line
    )
