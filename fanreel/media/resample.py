"""Scales and moves one plane of samples: the per-frame work of a Ken Burns move.

A move is scale + translation, so it is separable. The source lies transposed: pass 1 makes output
columns as weighted sums of its contiguous rows, blocks of these are transposed, pass 2 makes output rows
in the same way. Every inner loop runs over neighbouring samples with one weight per tap, so LLVM turns it
into full-width SIMD: 6 times as fast as `cv2.warpAffine` bilinear, 20 times as bicubic.

The kernel is bicubic (Catmull-Rom), widened by the step where the source is the larger side, so that
nothing aliases. Samples are integers throughout, weights are float64 without contraction: the bytes
depend on source, maps and output size only, on every CPU.

Between the passes a sample of value v is kept as 128 v + 16384. A tap is the high half of an unsigned
16 x 16 bit product (`vpmulhuw`), which loses up to 1/128 of a grey level in pass 1 and 1/64 in pass 2;
with more than 10 taps the sums have 32 bits instead.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.dispatcher import Dispatcher
from numba.extending import intrinsic

__all__ = ["AxisMap", "Resampler", "warm"]

_UNIT = 1 << 15  # what the weights of one output sample add up to
_KEPT_ZERO = np.uint16(1 << 14)  # 128 grey levels of room below 0; the kernel undershoots by 72 at most
_ZERO = np.uint16((1 << 13) - (1 << 5))  # 0 after pass 2, where v is 64 v + 8192, less one half to round
_WHITE = np.uint16(255)
_HIGH_BYTE = np.uint16(0xFF00)

# The intermediate of a tile (505 x 480 at step 1.3) fits the L2 cache, that of a slab of columns L1.
_TILE_HEIGHT = np.uint64(384)
_TILE_WIDTH = np.uint64(480)  # 15 cache lines: rows an odd number of lines apart do not share a cache set
_SLAB = np.uint64(32)
_TURN = np.uint64(64)  # source samples that one turn of the widest SIMD loop reads

_OPTIONS = {"nogil": True, "error_model": "numpy", "boundscheck": False}
_I8, _I16, _I32, _I64 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)
_FOUR, _SIX, _EIGHT, _TEN = ((0,) * count for count in (4, 6, 8, 10))
_Table = tuple[np.ndarray, np.ndarray]
_Scratch = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True, slots=True)
class AxisMap:
    """Where output samples read the source, along one axis.

    Output sample j reads index `origin + step * j`. Sample centres lie at integers, and positions outside
    the source read its edge sample.

    Args:
        origin: Source position of output sample 0, in source samples.
        step: Source samples per output sample, above 0; above 1 where the source is the larger side.

    Raises:
        ValueError: A number is not finite, or the step is not above 0.
    """

    origin: float
    step: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.origin) and 0 < self.step < math.inf):
            raise ValueError(f"{self} is no map: origin and step must be finite and step above 0")


class Resampler:
    """Resamples planes to one output size, with scratch memory that is kept from frame to frame.

    The bytes of a result do not depend on what was resampled before. Not safe for use by two threads at
    once; each call lets other threads run.

    Args:
        height: Rows of the output.
        width: Columns of the output.
    """

    def __init__(self, *, height: int, width: int) -> None:
        self._shape = (height, width)
        self._columns, self._rows = _Taps(width), _Taps(height)
        self._capacity = 0

    def resample(self, source_transposed: np.ndarray, *, x: AxisMap, y: AxisMap, out: np.ndarray) -> None:
        """Fill `out` with the source as the maps show it.

        Args:
            source_transposed: uint8, (source_width, source_height), C-contiguous.
            x: Where output columns lie along the source's first axis.
            y: Where output rows lie along the source's second axis.
            out: uint8, (height, width); neighbours in a row are adjacent, rows may be padded.

        Raises:
            ValueError: An array is not as described.
        """
        if out.shape != self._shape or out.dtype != np.uint8 or out.strides[1] != 1:
            raise ValueError(f"out is {out.dtype} {out.shape} {out.strides}, not uint8 {self._shape} with dense rows")
        if (
            source_transposed.dtype != np.uint8
            or source_transposed.ndim != 2
            or not source_transposed.flags.c_contiguous
        ):
            raise ValueError(
                f"the source is {source_transposed.dtype} {source_transposed.shape}, not a dense uint8 plane"
            )
        source_width, source_height = source_transposed.shape
        self._columns.follow(x, source_width)
        self._rows.follow(y, source_height)
        self._reserve(min(source_height, math.ceil(y.step * int(_TILE_HEIGHT)) + self._rows.count))
        _kernels().resample(source_transposed, self._columns.table, self._rows.table, self._scratch, out)

    def _reserve(self, window: int) -> None:
        """Have room for tiles that read `window` source rows; in steps, for a zoom asks for more each frame."""
        if window > self._capacity:
            self._capacity = -(-window // 256) * 256 + 2 * int(_TURN)
            kept = _aligned((2 * int(_SLAB), self._capacity // 2 | 32), np.uint16)
            turned = _aligned((self._capacity, int(_TILE_WIDTH)), np.uint16)
            sums = np.empty(max(self._capacity, int(_TILE_WIDTH)), np.uint32)
            self._scratch = (kept, turned, sums)


class _Taps:
    """The taps of one axis, made anew only when the map or the source's size changes (V follows U)."""

    def __init__(self, output_count: int) -> None:
        self._output_count = output_count
        self._followed: tuple[AxisMap, int] | None = None

    def follow(self, axis: AxisMap, size: int) -> None:
        """Make the table for `axis` over a source of `size` samples.

        The table is uint32 rows and int32 weights, both (taps, outputs); weights add up to `_UNIT`.
        """
        if self._followed == (axis, size):
            return
        # A step that rounding left just above 1 needs no more taps than 1: they would weigh nothing.
        self.count = 2 * math.ceil(2 * max(axis.step, 1.0) - 1e-6)
        shape = (self.count, self._output_count)
        self.table = (np.empty(shape, np.uint32), np.empty(shape, np.int32))
        _kernels().fill_taps(axis.origin, axis.step, size, self.table)
        self._followed = (axis, size)


def _aligned(shape: tuple[int, int], dtype: type) -> np.ndarray:
    """Return an array at a cache line's start; pass 2 is a fifth slower where each load spans two lines."""
    byte_count = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(byte_count + 63, np.uint8)
    skip = -raw.ctypes.data % 64
    return raw[skip : skip + byte_count].view(dtype).reshape(shape)


def warm() -> None:
    """Compile the kernels, or load them from numba's cache, so that a fork finds them ready."""
    _kernels()


@dataclass(frozen=True, slots=True)
class _Kernels:
    resample: Dispatcher
    fill_taps: Dispatcher


@functools.cache
def _kernels() -> _Kernels:
    table = types.Tuple((types.uint32[:, ::1], types.int32[:, ::1]))
    scratch = types.Tuple((types.uint16[:, ::1], types.uint16[:, ::1], types.uint32[::1]))
    source = types.Array(types.uint8, 2, "C", readonly=True)
    resample = types.void(source, table, table, scratch, types.uint8[:, :])
    fill_taps = types.void(types.float64, types.float64, types.int64, table)
    return _Kernels(
        resample=njit(resample, cache=True, **_OPTIONS)(_resample),
        fill_taps=njit(fill_taps, cache=True, **_OPTIONS)(_fill_taps),
    )


def _fill_taps(origin: float, step: float, size: int, table: _Table) -> None:
    """Fill one axis' table. The tap nearest to the position, always the largest, takes what rounding left."""
    rows, weights = table
    taps, count = rows.shape
    shares, sums, left = np.empty((taps, count)), np.zeros(count), np.full(count, _UNIT, np.int32)
    for k in range(taps):
        for i in range(count):
            position = origin + step * i
            base = math.floor(position) + float(k + 1 - taps // 2)
            shares[k, i] = _catmull_rom(abs(base - position) / max(step, 1.0))
            sums[i] += shares[k, i]
            rows[k, i] = np.uint32(min(max(base, 0.0), size - 1.0))
    for k in range(taps):
        for i in range(count):
            weights[k, i] = np.int32(math.floor(shares[k, i] / sums[i] * _UNIT + 0.5))
            left[i] -= weights[k, i]
    for i in range(count):
        position = origin + step * i
        nearest = taps // 2 - 1 if position - math.floor(position) < 0.5 else taps // 2
        weights[nearest, i] += left[i]


@njit(**_OPTIONS)
def _catmull_rom(distance: float) -> float:
    near = (1.5 * distance - 2.5) * distance * distance + 1.0
    far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    return near if distance < 1.0 else (far if distance < 2.0 else 0.0)


def _resample(source: np.ndarray, columns: _Table, rows: _Table, scratch: _Scratch, out: np.ndarray) -> None:
    """Run both passes over every tile."""
    kept, turned, sums = scratch
    height, width = np.uint64(out.shape[0]), np.uint64(out.shape[1])
    for top in range(np.uint64(0), height, _TILE_HEIGHT):
        bottom = min(top + _TILE_HEIGHT, height)
        low, window = _source_window(rows[0], top, bottom, np.uint64(source.shape[1]))
        for left in range(np.uint64(0), width, _TILE_WIDTH):
            right = min(left + _TILE_WIDTH, width)
            for start in range(left, right, _SLAB):
                stop = min(start + _SLAB, right)
                _make_columns(source, low, window, columns, start, stop, kept, sums)
                _turn_slab(kept, stop - start, window, turned, start - left)
            _make_rows(turned, low, rows, top, bottom, out, left, right - left, sums)


@njit(**_OPTIONS)
def _source_window(rows: np.ndarray, top: int, bottom: int, size: int) -> tuple[int, int]:
    """Return where the samples that these output rows read begin, and how many there are, in whole turns."""
    low = np.uint64(rows[0, top])
    count = np.uint64(rows[-1, bottom - np.uint64(1)]) + np.uint64(1) - low
    count = min((count + _TURN - np.uint64(1)) // _TURN * _TURN, size)
    return min(low, size - count), count


@njit(**_OPTIONS)
def _turn_slab(kept: np.ndarray, width: int, window: int, turned: np.ndarray, left: int) -> None:
    """Write the columns in `kept` as columns of `turned`, whole blocks; what lies past the ends is not read."""
    for pair in range(np.uint64(0), (window + np.uint64(1)) // np.uint64(2), np.uint64(8)):
        for odd in range(np.uint64(2)):
            for column in range(np.uint64(0), width, np.uint64(16)):
                at = np.uint64(2) * pair + odd
                _transpose_block(kept, odd * _SLAB + column, pair, turned, at, left + column)


@njit(**_OPTIONS)
def _make_columns(source, low, window, table, start, stop, kept, sums):
    taps = len(table[0])
    if taps == 4:
        _blend_columns(source, low, window, table, _FOUR, start, stop, kept)
    elif taps == 6:
        _blend_columns(source, low, window, table, _SIX, start, stop, kept)
    elif taps == 8:
        _blend_columns(source, low, window, table, _EIGHT, start, stop, kept)
    elif taps == 10:
        _blend_columns(source, low, window, table, _TEN, start, stop, kept)
    else:
        _sum_columns(source, low, window, table, start, stop, kept, sums)


@njit(**_OPTIONS)
def _make_rows(turned, low, table, top, bottom, out, left, width, sums):
    taps = len(table[0])
    if taps == 4:
        _blend_rows(turned, low, table, _FOUR, top, bottom, out, left, width)
    elif taps == 6:
        _blend_rows(turned, low, table, _SIX, top, bottom, out, left, width)
    elif taps == 8:
        _blend_rows(turned, low, table, _EIGHT, top, bottom, out, left, width)
    elif taps == 10:
        _blend_rows(turned, low, table, _TEN, top, bottom, out, left, width)
    else:
        _sum_rows(turned, low, table, top, bottom, out, left, width, sums)


@njit(**_OPTIONS)
def _blend_columns(source, low, window, table, like, start, stop, kept):
    for i in range(start, stop):
        rows, weights, column = _taps(table[0], i, like), _taps(table[1], i, like), i - start
        for pair in range(window // np.uint64(2)):
            at = low + pair + pair
            even = _blend(source, rows, np.uint64(0), at, weights, np.uint16(8), _HIGH_BYTE)
            odd = _blend(source, rows, np.uint64(0), at, weights, np.uint16(0), _HIGH_BYTE)
            _store(kept, column, pair, np.uint16(even + _KEPT_ZERO))
            _store(kept, column + _SLAB, pair, np.uint16(odd + _KEPT_ZERO))
        if window % np.uint64(2):
            at = low + window - np.uint64(2)
            last = _blend(source, rows, np.uint64(0), at, weights, np.uint16(0), _HIGH_BYTE)
            _store(kept, column, window // np.uint64(2), np.uint16(last + _KEPT_ZERO))


@njit(**_OPTIONS)
def _blend_rows(turned, low, table, like, top, bottom, out, left, width):
    for i in range(top, bottom):
        rows, weights = _taps(table[0], i, like), _taps(table[1], i, like)
        for column in range(width):
            total = _blend(turned, rows, low, column, weights, np.uint16(0), np.uint16(0xFFFF))
            _store(out, i, left + column, _settle(total))


@njit(**_OPTIONS)
def _settle(total):
    above = np.uint16(max(total, _ZERO) - _ZERO)
    return np.uint8(min(np.uint16(above >> 6), _WHITE))


@njit(**_OPTIONS)
def _sum_columns(source, low, window, table, start, stop, kept, sums):
    for i in range(start, stop):
        _sum_taps(source, table, i, np.uint64(0), low, window, sums)
        for place in range(window):
            odd = place % np.uint64(2)
            kept[i - start + odd * _SLAB, place // np.uint64(2)] = (sums[place] + 128 >> 8) + _KEPT_ZERO


@njit(**_OPTIONS)
def _sum_rows(turned, low, table, top, bottom, out, left, width, sums):
    for i in range(top, bottom):
        _sum_taps(turned, table, i, low, np.uint64(0), width, sums)
        for column in range(width):
            out[i, left + column] = _settle(np.uint16(sums[column] + 32768 >> 16))


@njit(**_OPTIONS)
def _sum_taps(plane, table, i, first_row, first_column, count, sums):
    sums[:count] = 0
    for k in range(len(table[0])):
        row, weight = np.uint64(table[0][k, i]) - first_row, np.uint32(table[1][k, i])
        for place in range(count):
            sums[place] += np.uint32(plane[row, first_column + place]) * weight


def _element(context, builder, kind, array, row, column, pointee):
    """Emit the address of `array[row, column]`, rows dense, as a pointer to `pointee`."""
    view = context.make_array(kind)(context, builder, array)
    stride, item = builder.extract_value(view.strides, 0), _I64(kind.dtype.bitwidth // 8)
    offset = builder.add(builder.mul(row, stride), builder.mul(column, item))
    return builder.bitcast(builder.gep(builder.bitcast(view.data, _I8.as_pointer()), [offset]), pointee.as_pointer())


@intrinsic
def _taps(_typing, table, i, like):
    """Emit `table[:, i]` as a tuple as long as `like`."""

    def generate(context, builder, signature, args):
        kind = context.get_value_type(table.dtype)
        places = [_element(context, builder, table, args[0], _I64(k), args[1], kind) for k in range(len(like))]
        return context.make_tuple(builder, signature.return_type, [builder.load(place) for place in places])

    return types.UniTuple(table.dtype, len(like))(table, types.uint64, like), generate


@intrinsic
def _store(_typing, array, row, column, value):
    """Emit `array[row, column] = value`."""

    def generate(context, builder, signature, args):
        place = _element(context, builder, array, *args[:3], args[3].type)
        builder.store(args[3], place).set_metadata("noalias", _scope(builder.module))
        return context.get_dummy_value()

    return types.void(array, types.uint64, types.uint64, array.dtype), generate


@intrinsic
def _blend(_typing, plane, rows, first, column, weights, shift, mask):
    def generate(context, builder, signature, args):
        array, rows_, first, column, weights_, shift, mask = args
        taps = len(rows)
        total = _I16(0 if taps == 4 else 1)
        fn = builder.module.declare_intrinsic("llvm.umul.fix", (_I16,), ir.FunctionType(_I16, (_I16, _I16, _I32)))
        for k in range(taps):
            row = builder.sub(builder.zext(builder.extract_value(rows_, k), _I64), first)
            load = builder.load(
                _element(context, builder, plane, array, row, column, _I16),
                align=1 if plane.dtype == types.uint8 else 2,
            )
            load.set_metadata("alias.scope", _scope(builder.module))
            value = builder.and_(builder.shl(load, shift), mask)
            weight = builder.extract_value(weights_, k)
            sign = builder.ashr(weight, _I32(31))
            magnitude = builder.trunc(builder.sub(builder.xor(weight, sign), sign), _I16)
            part = builder.call(fn, (value, magnitude, _I32(16)))
            near = abs(2 * k + 1 - taps) // 2
            if 2 * near >= taps // 2:
                total = builder.sub(total, part)
            elif 2 * (near + 1) <= max(taps // 2 - 1, 2):
                total = builder.add(total, part)
            else:
                total = builder.add(total, builder.xor(part, builder.trunc(sign, _I16)))
        return total

    u = types.uint64
    return types.uint16(plane, rows, u, u, weights, types.uint16, types.uint16), generate


@intrinsic
def _transpose_block(_typing, source, row, column, target, target_row, target_column):
    """Emit the transposition of 16 rows x 8 columns of uint16 into 8 rows, every second one of `target`.

    Three rounds that interleave row k with row k + 4 transpose 8 x 8; two such blocks lie side by side.
    """

    def generate(context, builder, signature, args):
        source_, row, column, target_, target_row, target_column = args
        eight, sixteen = ir.VectorType(_I16, 8), ir.VectorType(_I16, 16)

        def mask(lanes):
            return ir.Constant(ir.VectorType(_I32, 16), list(lanes))

        def load(k):
            place = (source_, builder.add(row, _I64(k)), column)
            return builder.load(_element(context, builder, source, *place, eight), align=2)

        rows = [builder.shuffle_vector(load(k), load(k + 8), mask(range(16))) for k in range(8)]
        halves = [mask(s + lane + k for lane in (h, h + 8) for k in range(4) for s in (0, 16)) for h in (0, 4)]
        for _ in range(3):
            rows = [builder.shuffle_vector(rows[k // 2], rows[k // 2 + 4], halves[k % 2]) for k in range(8)]
        for k, value in enumerate(rows):
            place = (target_, builder.add(target_row, _I64(2 * k)), target_column)
            builder.store(value, _element(context, builder, target, *place, sixteen), align=2)
        return context.get_dummy_value()

    index = types.uint64
    return types.void(source, index, index, target, index, index), generate


def _scope(module):
    domain = module.add_metadata(["fanreel.resample"])
    return module.add_metadata([module.add_metadata(["samples", domain])])
