"""The compiled loops of the resampler.

Between the two passes a sample of value v is kept as 128 v + 16384. A tap is the high half of an unsigned
16 x 16 bit product, which loses up to 1/128 of a grey level in pass 1 and 1/64 in pass 2, so that
10 taps keep a constant plane constant; where there are more, the sums have 32 bits.
"""

# numba's intrinsics are called without their first argument:
# pyright: reportCallIssue=false
# ruff: noqa: ANN001, ANN202 - what numba compiles is typed in `kernels`, what emits code by numba's own protocol

from __future__ import annotations

import functools

import numpy as np
from llvmlite import ir
from numba import literal_unroll, njit, types
from numba.core import cgutils
from numba.core.dispatcher import Dispatcher
from numba.extending import intrinsic

__all__ = ["SLAB", "TILE_HEIGHT", "TILE_WIDTH", "TILE_WINDOW", "TURN", "UNIT", "kernels"]

UNIT = 1 << 15  # what the weights of one output sample add up to
_KEPT_ZERO = np.uint16(1 << 14)  # 128 grey levels of room below 0; both passes undershoot by 78 at most
_ZERO = np.uint16((1 << 13) - (1 << 5))  # 0 after pass 2, where v is 64 v + 8192, less one half to round
_WHITE = np.uint16(255)
_UNROLLED = ((0,) * 4, (0,) * 6, (0,) * 8, (0,) * 10)  # tap counts up to step 2.5, as lengths of tuples

# The intermediate of a tile (up to 720 x 480) fits the L2 cache, that of a slab of columns L1.
TILE_HEIGHT = 540
TILE_WINDOW = 720  # source rows of a tile; larger steps make smaller tiles
TILE_WIDTH = np.uint64(480)  # rows of 15 cache lines: with an odd number, a column is spread over the sets
SLAB = np.uint64(32)
TURN = np.uint64(64)  # source samples that one turn of the widest SIMD loop reads

_OPTIONS = {"nogil": True, "error_model": "numpy", "boundscheck": False}
_PLACE = types.UniTuple(types.uint64, 2)  # row, column
_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))


@functools.cache
def kernels() -> tuple[Dispatcher, Dispatcher]:
    """Return `_resample` and `_fill_taps`, compiled."""
    table = types.Tuple((types.uint32[:, ::1], types.int32[:, ::1]))
    scratch = types.Tuple((types.uint16[:, ::1], types.uint16[:, ::1], types.uint32[::1]))
    source = types.Array(types.uint8, 2, "C", readonly=True)
    resample = types.void(source, table, table, types.uint64, scratch, types.uint8[:, :])
    fill_taps = types.void(types.float64, types.float64, types.int64, table)
    compiled = functools.partial(njit, cache=True, **_OPTIONS)
    return compiled(resample)(_resample), compiled(fill_taps)(_fill_taps)


def _fill_taps(origin, step, size, table):
    """Fill one axis' table. The tap nearest to the position, always the largest, takes what rounding left."""
    rows, weights = table
    taps, count = rows.shape
    positions, shares, sums = np.empty(count), np.empty((taps, count)), np.zeros(count)
    left = np.full(count, UNIT, np.int32)
    for i in range(count):
        # Further out every tap reads the edge; the bound keeps positions exact to a fraction of a sample.
        positions[i] = min(max(origin + step * i, -float(taps)), float(size + taps))
    for k in range(taps):
        for i in range(count):
            base = np.floor(positions[i]) + (k + 1 - taps // 2)
            shares[k, i] = _catmull_rom(abs(base - positions[i]) / max(step, 1.0))
            sums[i] += shares[k, i]
            rows[k, i] = np.uint32(min(max(base, 0.0), size - 1.0))
    for k in range(taps):
        for i in range(count):
            weights[k, i] = np.int32(np.floor(shares[k, i] / sums[i] * UNIT + 0.5))
            left[i] -= weights[k, i]
    for i in range(count):
        nearest = taps // 2 - 1 if positions[i] - np.floor(positions[i]) < 0.5 else taps // 2
        weights[nearest, i] += left[i]


@njit(**_OPTIONS)
def _catmull_rom(distance):
    near = (1.5 * distance - 2.5) * distance * distance + 1.0
    far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    return near if distance < 1.0 else (far if distance < 2.0 else 0.0)


def _resample(source, columns, rows, tile_height, scratch, out):
    """Run both passes over every tile. Indices are uint64: numba would let a signed one count from the end."""
    kept, turned, sums = scratch
    height, width = np.uint64(out.shape[0]), np.uint64(out.shape[1])
    for top in range(np.uint64(0), height, tile_height):
        bottom = min(top + tile_height, height)
        window = _source_window(rows[0], top, bottom, np.uint64(source.shape[1]))
        for left in range(np.uint64(0), width, TILE_WIDTH):
            right = min(left + TILE_WIDTH, width)
            for start in range(left, right, SLAB):
                stop = min(start + SLAB, right)
                _make_columns(source, window, columns, (start, stop), kept, sums)
                _turn_slab(kept, stop - start, window[1], turned, start - left)
            _make_rows(turned, window[0], rows, (top, bottom), out, (left, right), sums)


@njit(**_OPTIONS)
def _source_window(rows, top, bottom, size):
    """Return where the samples that these output rows read begin, and how many there are, in whole turns."""
    low = np.uint64(rows[0, top])
    count = np.uint64(rows[-1, bottom - np.uint64(1)]) + np.uint64(1) - low
    count = min((count + TURN - np.uint64(1)) // TURN * TURN, size)
    return min(low, size - count), count


@njit(**_OPTIONS)
def _make_columns(source, window, table, columns, kept, sums):
    """Pass 1: fill `kept`, samples at even offsets in its first half of rows, at odd ones in the second."""
    taps = len(table[0])
    for like in literal_unroll(_UNROLLED):
        if len(like) == taps:
            _blend_columns(source, window, table, like, columns, kept)
    if taps > 10:
        for i in range(columns[0], columns[1]):
            _sum_taps(source, table, i, (np.uint64(0), window[0]), window[1], sums)
            for place in range(window[1]):
                row = i - columns[0] + place % np.uint64(2) * SLAB
                kept[row, place // np.uint64(2)] = (sums[place] + 128 >> 8) + _KEPT_ZERO


@njit(**_OPTIONS)
def _turn_slab(kept, width, window, turned, left):
    """Write the columns in `kept` as columns of `turned`, in whole blocks; nothing reads what lies beyond."""
    for pair in range(np.uint64(0), (window + np.uint64(1)) // np.uint64(2), np.uint64(8)):
        for odd in range(np.uint64(2)):
            for column in range(np.uint64(0), width, np.uint64(16)):
                target = (pair + pair + odd, left + column)
                _transpose_block(kept, (odd * SLAB + column, pair), turned, target)


@njit(**_OPTIONS)
def _make_rows(turned, low, table, rows, out, columns, sums):
    """Pass 2: fill a tile of `out`."""
    taps = len(table[0])
    for like in literal_unroll(_UNROLLED):
        if len(like) == taps:
            _blend_rows(turned, low, table, like, rows, out, columns)
    if taps > 10:
        for i in range(rows[0], rows[1]):
            _sum_taps(turned, table, i, (low, np.uint64(0)), columns[1] - columns[0], sums)
            for column in range(columns[1] - columns[0]):
                out[i, columns[0] + column] = _settle(np.uint16(sums[column] + 32768 >> 16))


@njit(**_OPTIONS)
def _blend_columns(source, window, table, like, columns, kept):
    # One shift and one mask make 16-bit lanes of even and odd bytes. Widening bytes in order costs twice
    # that, and transposing puts them in order for nothing.
    low, count = window
    for i in range(columns[0], columns[1]):
        rows, weights, at = _column(table[0], i, like), _column(table[1], i, like), i - columns[0]
        for pair in range(count // np.uint64(2)):
            first = (np.uint64(0), low + pair + pair)
            even = _blend(source, rows, first, weights, np.uint16(8), np.uint16(0xFF00))
            odd = _blend(source, rows, first, weights, np.uint16(0), np.uint16(0xFF00))
            _store(kept, (at, pair), np.uint16(even + _KEPT_ZERO))
            _store(kept, (at + SLAB, pair), np.uint16(odd + _KEPT_ZERO))
        if count % np.uint64(2):
            first = (np.uint64(0), low + count - np.uint64(2))
            last = _blend(source, rows, first, weights, np.uint16(0), np.uint16(0xFF00))
            _store(kept, (at, count // np.uint64(2)), np.uint16(last + _KEPT_ZERO))


@njit(**_OPTIONS)
def _blend_rows(turned, low, table, like, span, out, columns):
    for i in range(span[0], span[1]):
        rows, weights = _column(table[0], i, like), _column(table[1], i, like)
        for column in range(columns[1] - columns[0]):
            total = _blend(turned, rows, (low, column), weights, np.uint16(0), np.uint16(0xFFFF))
            _store(out, (i, columns[0] + column), _settle(total))


@njit(**_OPTIONS)
def _settle(total):
    """Return the sample that a total of pass 2 stands for; each step is cut to 16 bits, to stay in narrow lanes."""
    above = np.uint16(max(total, _ZERO) - _ZERO)
    return np.uint8(min(np.uint16(above >> 6), _WHITE))


@njit(**_OPTIONS)
def _sum_taps(plane, table, i, first, count, sums):
    """Fill `sums` modulo 2**32 with any number of taps; `first` is the (row, column) of `plane` that counts as 0."""
    sums[:count] = 0
    for k in range(len(table[0])):
        row, weight = np.uint64(table[0][k, i]) - first[0], np.uint32(table[1][k, i])
        for place in range(count):
            sums[place] += np.uint32(plane[row, first[1] + place]) * weight


def _element(context, builder, kind, array, place, pointee):
    """Emit the address of `array[place]`, rows dense, as a pointer to `pointee`."""
    view = context.make_array(kind)(context, builder, array)
    stride, item = builder.extract_value(view.strides, 0), _I64(kind.dtype.bitwidth // 8)
    offset = builder.add(builder.mul(place[0], stride), builder.mul(place[1], item))
    return builder.bitcast(builder.gep(builder.bitcast(view.data, _I8.as_pointer()), [offset]), pointee.as_pointer())


@intrinsic
def _column(_typing, table, i, like):
    """Emit `table[:, i]` as a tuple as long as `like`."""

    def generate(context, builder, signature, args):
        kind = context.get_value_type(table.dtype)
        places = [_element(context, builder, table, args[0], (_I64(k), args[1]), kind) for k in range(len(like))]
        return context.make_tuple(builder, signature.return_type, [builder.load(place) for place in places])

    return types.UniTuple(table.dtype, len(like))(table, types.uint64, like), generate


@intrinsic
def _store(_typing, array, place, value):
    """Emit `array[place] = value`, rows dense."""

    def generate(context, builder, _signature, args):
        row_column = cgutils.unpack_tuple(builder, args[1])
        builder.store(args[2], _element(context, builder, array, args[0], row_column, args[2].type))
        return context.get_dummy_value()

    return types.void(array, _PLACE, array.dtype), generate


@intrinsic
def _blend(_typing, plane, rows, first, weights, shift, mask):
    """Emit the sum over `rows` of weight x ((two bytes at plane[row - first[0], first[1]] << shift) & mask).

    In Python, numba would widen to 64 bits; `llvm.umul.fix` stays in 16-bit lanes (`vpmulhuw`).
    """
    taps = len(rows)

    def generate(context, builder, _signature, args):
        array, rows, first, weights, shift, mask = args
        rows, weights, (first_row, column) = (cgutils.unpack_tuple(builder, each) for each in (rows, weights, first))
        product = ir.FunctionType(_I16, (_I16, _I16, _I32))
        multiply_high = builder.module.declare_intrinsic("llvm.umul.fix", (_I16,), product)
        total = _I16(0 if taps == 4 else 1)  # half of what rounding down loses where a tap may have either sign
        for k in range(taps):
            place = builder.sub(builder.zext(rows[k], _I64), first_row), column
            pair = builder.load(_element(context, builder, plane, array, place, _I16), align=1)
            value = builder.and_(builder.shl(pair, shift), mask)
            negative = builder.ashr(weights[k], _I32(31))
            magnitude = builder.sub(builder.xor(weights[k], negative), negative)
            part = builder.call(multiply_high, (value, builder.trunc(magnitude, _I16), _I32(16)))
            total = _add_part(builder, total, part, builder.trunc(negative, _I16), abs(2 * k + 1 - taps) // 2, taps)
        return total

    return types.uint16(plane, rows, _PLACE, weights, types.uint16, types.uint16), generate


def _add_part(builder, total, part, negative, nearest, taps):
    """Emit `total` with the share of one tap, `nearest` to `nearest + 1` samples off, added or taken away.

    At every step that has this number of taps, the inner ones lie within the kernel's positive lobe and
    the outer ones outside; only between them does the sign depend on the position.
    """
    if 2 * nearest >= taps // 2:
        return builder.sub(total, part)
    if 2 * (nearest + 1) <= max(taps // 2 - 1, 2):
        return builder.add(total, part)
    return builder.add(total, builder.xor(part, negative))


@intrinsic
def _transpose_block(_typing, source, source_place, target, target_place):
    """Emit the transposition of 16 rows x 8 columns of uint16 into 8 rows, every second one of `target`.

    Three rounds that interleave row k with row k + 4 transpose 8 x 8; two such blocks lie side by side.
    """
    eight, sixteen, lanes = ir.VectorType(_I16, 8), ir.VectorType(_I16, 16), ir.VectorType(_I32, 16)
    halves = [lanes([s + h + k for h in (start, start + 8) for k in range(4) for s in (0, 16)]) for start in (0, 4)]

    def generate(context, builder, _signature, args):
        row, column = cgutils.unpack_tuple(builder, args[1])
        places = [(builder.add(row, _I64(k)), column) for k in range(16)]
        loaded = [builder.load(_element(context, builder, source, args[0], place, eight), align=2) for place in places]
        rows = [builder.shuffle_vector(loaded[k], loaded[k + 8], lanes(list(range(16)))) for k in range(8)]
        for _ in range(3):
            rows = [builder.shuffle_vector(rows[k // 2], rows[k // 2 + 4], halves[k % 2]) for k in range(8)]
        row, column = cgutils.unpack_tuple(builder, args[3])
        for k, value in enumerate(rows):
            place = builder.add(row, _I64(2 * k)), column
            builder.store(value, _element(context, builder, target, args[2], place, sixteen), align=2)
        return context.get_dummy_value()

    return types.void(source, _PLACE, target, _PLACE), generate
