"""Scales and moves one plane of samples: the per-frame work of a Ken Burns move.

A move is scale + translation, so it is separable. The source lies transposed: pass 1 makes output
columns as weighted sums of its contiguous rows, small blocks are transposed, pass 2 does the same for
output rows. Every inner loop runs over neighbouring samples with one weight per tap, which LLVM turns
into full-width SIMD.

The kernel is bicubic (Catmull-Rom), as wide as the step where the source is the larger side, so nothing
aliases. Pixels are 16-bit integers throughout and weights are float64 without contraction: the bytes
depend on source, maps and output size only, on every CPU.

Between the passes a sample of value v is kept as 128 v + 16384. A tap is the high half of an unsigned
16 x 16 bit product (`vpmulhuw`); it loses less than 1/128 of a grey level in pass 1 and 1/64 in pass 2,
so up to 42 taps round a constant plane to itself.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

__all__ = ["MAX_STEP", "AxisMap", "Resampler", "warm"]

MAX_STEP = 8.0  # 32 taps; a source that is larger still is scaled once, beforehand

_UNIT = 1 << 15  # what the weights of one output sample add up to
_KEPT_ZERO = np.uint16(1 << 14)  # room for undershoot: 16384 / 128 = 128 grey levels
_FLOOR = np.uint16((1 << 13) - (1 << 5))  # zero after pass 2 (64 v + 8192), less the half that rounds
_WHITE = np.uint16(255)
_HIGH_BYTE = np.uint16(0xFF00)

# A tile's intermediate (500 x 480 samples at step 1.3) fits the L2 cache, a slab of 32 columns L1.
_TILE_HEIGHT = np.uint64(384)
_TILE_WIDTH = np.uint64(480)  # rows of 15 cache lines: an odd number, so columns spread over the sets
_SLAB = np.uint64(32)
_WINDOW_STEP = 64  # source samples read by one turn of the widest SIMD loop

_OPTIONS = {"nogil": True, "error_model": "numpy", "boundscheck": False}
_I16, _I32, _I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)


@dataclass(frozen=True, slots=True)
class AxisMap:
    """Where output samples read the source, along one axis.

    Output sample j reads index ``origin + step * j``; sample centres lie at integers and positions
    outside the source read its edge sample.

    Args:
        origin: Source position of output sample 0, in source samples.
        step: Source samples per output sample, above 0 and at most `MAX_STEP`; above 1 the source is larger.

    Raises:
        ValueError: A number is not finite or the step is out of range.
    """

    origin: float
    step: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.origin) and 0 < self.step <= MAX_STEP):
            raise ValueError(f"{self} is no map: origin must be finite and 0 < step <= {MAX_STEP:g}")


def _element(context, builder, array_type, array, row, column, as_type):  # noqa: ANN001, ANN202, PLR0913, RUF100
    """Emit the address of ``array[row, column]``, C-contiguous, as a pointer to `as_type`."""
    view = context.make_array(array_type)(context, builder, array)
    offset = builder.add(builder.mul(row, builder.extract_value(view.shape, 1)), column)
    return builder.bitcast(builder.gep(view.data, [offset]), as_type.as_pointer())


@intrinsic
def _load_pair(_typing, plane, row, column):  # noqa: ANN001, ANN202
    """Emit the bytes at ``column`` (low half) and ``column + 1`` (high half) of a uint8 plane as one uint16."""

    def generate(context, builder, signature, args):  # noqa: ANN001, ANN202
        return builder.load(_element(context, builder, signature.args[0], *args, _I16), align=1)

    return types.uint16(plane, types.uint64, types.uint64), generate


@intrinsic
def _multiply_high(_typing, value, weight):  # noqa: ANN001, ANN202
    """Emit ``value * weight >> 16`` for uint16.

    Written in Python, numba would widen to 64 bits; this fixed-point product stays in 16-bit lanes.
    """

    def generate(_context, builder, _signature, args):  # noqa: ANN001, ANN202
        product = ir.FunctionType(_I16, (_I16, _I16, _I32))
        function = builder.module.declare_intrinsic("llvm.umul.fix", (_I16,), product)
        return builder.call(function, (*args, _I32(16)))

    return types.uint16(types.uint16, types.uint16), generate


@intrinsic
def _transpose_block(_typing, source, row, column, target, target_row, target_column):  # noqa: ANN001, ANN202
    """Emit the transposition of 16 rows x 8 columns of uint16 into 8 rows, every second one of `target`.

    Three rounds that interleave row k with row k + 4 transpose 8 x 8; two such blocks lie side by side.
    """

    def generate(context, builder, signature, args):  # noqa: ANN001, ANN202
        source, row, column, target, target_row, target_column = args
        eight, sixteen = ir.VectorType(_I16, 8), ir.VectorType(_I16, 16)

        def mask(lanes):  # noqa: ANN001, ANN202
            return ir.Constant(ir.VectorType(_I32, 16), list(lanes))

        def load(k):  # noqa: ANN001, ANN202
            at = _element(context, builder, signature.args[0], source, builder.add(row, _I64(k)), column, eight)
            return builder.load(at, align=2)

        rows = [builder.shuffle_vector(load(k), load(k + 8), mask(range(16))) for k in range(8)]
        halves = [mask(s + lane + k for lane in (h, h + 8) for k in range(4) for s in (0, 16)) for h in (0, 4)]
        for _ in range(3):
            rows = [builder.shuffle_vector(rows[k // 2], rows[k // 2 + 4], halves[k % 2]) for k in range(8)]
        for k, value in enumerate(rows):
            at_row = builder.add(target_row, _I64(2 * k))
            at = _element(context, builder, signature.args[3], target, at_row, target_column, sixteen)
            builder.store(value, at, align=2)
        return context.get_dummy_value()

    index = types.uint64
    return types.void(source, index, index, target, index, index), generate


@njit(**_OPTIONS)
def _catmull_rom(distance: float) -> float:
    near = (1.5 * distance - 2.5) * distance * distance + 1.0
    far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    return near if distance < 1.0 else (far if distance < 2.0 else 0.0)
