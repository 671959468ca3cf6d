"""The compiled loops of the resampler.

Rows of the source are scaled across first, into a ring of the rows that the next output row needs; then weighted
sums of these are the output, so that what is between lies in the nearest caches. Across, a sample of value v becomes
64 v, rounded once; down, each tap is rounded to 1/32 of a grey level, so that up to 16 taps keep a constant plane
constant; where there are more, the sums have 32 bits.
"""

# numba's intrinsics are called without their first argument:
# pyright: reportCallIssue=false
# ruff: noqa: ANN001, ANN202 - what numba compiles is typed in `kernel`

from __future__ import annotations

import functools

import numpy as np
from numba import literal_unroll, njit, types
from numba.core.dispatcher import Dispatcher

from fanreel.draw.resample_blocks import UNIT, blend_block, column_of, ring_rows, scale_block

__all__ = ["BORDER", "TAP_COUNTS", "kernel"]

BORDER = 64  # copies of the edge on either side of a source row: what the taps and loads of a block may reach
TAP_COUNTS = (4, 6, 8, 12, 16)  # up to step 4, where four outputs' two taps read at most 14 neighbouring samples
_UNROLLED = tuple((0,) * taps for taps in TAP_COUNTS)

_OPTIONS = {"nogil": True, "error_model": "numpy", "boundscheck": False}


@functools.cache
def kernel() -> Dispatcher:
    """Return `_resample`, compiled or loaded from numba's cache."""
    taps = types.Tuple((types.int32[::1], types.int16[:, ::1]))
    groups = types.UniTuple(types.uint32[:, ::1], 3)
    source = types.Array(types.uint8, 2, "C", readonly=True)
    maps, tables = types.UniTuple(types.float64, 4), types.Tuple((taps, groups, taps))
    scratch = types.Tuple((types.int16[:, ::1], types.int32[::1]))
    signature = types.void(source, maps, types.boolean, tables, scratch, types.uint8[:, :])
    return njit(signature, cache=True, **_OPTIONS)(_resample)


def _resample(source, maps, fresh, tables, scratch, out):
    """Fill `out`, and before that the tables where the maps are fresh.

    Indices are uint64: numba would let a signed one count from the end.
    """
    columns, groups, rows = tables
    if fresh:
        _fill_taps(maps[0], maps[1], source.shape[1] - 2 * BORDER, columns)
        _fill_taps(maps[2], maps[3], source.shape[0], rows)
        _fill_groups(columns, groups)
    taps = len(columns[1])
    for like in literal_unroll(_UNROLLED):
        if len(like) == taps:
            _resample_narrow(source, groups, rows, scratch, out, like)
    if taps > TAP_COUNTS[-1]:
        _resample_wide(source, columns, rows, scratch, out)


@njit(**_OPTIONS)
def _fill_taps(origin, step, size, table):
    """Fill one axis' first taps and weights. The tap nearest to the position, the largest, takes what rounding left."""
    starts, weights = table
    taps, count = weights.shape
    shares, left = np.empty((taps, count), np.float32), np.full(count, UNIT, np.int32)
    sums, offsets = np.zeros(count, np.float32), np.empty(count, np.float32)
    narrowing = np.float32(1.0 / max(step, 1.0))
    for i in range(count):
        # Further out every tap reads the edge; the bound keeps positions exact to a fraction of a sample.
        position = min(max(origin + step * i, -float(taps)), float(size + taps))
        first = np.floor(position) + (1 - taps // 2)
        starts[i] = np.int32(min(max(first, -float(taps)), float(size)))
        offsets[i] = np.float32(first - position)
    for k in range(taps):
        for i in range(count):
            shares[k, i] = _catmull_rom(abs(offsets[i] + np.float32(k)) * narrowing)
            sums[i] += shares[k, i]
    for i in range(count):
        sums[i] = np.float32(UNIT) / sums[i]
    for k in range(taps):
        for i in range(count):
            weights[k, i] = np.int16(np.floor(shares[k, i] * sums[i] + np.float32(0.5)))
            left[i] -= weights[k, i]
    for i in range(count):
        nearest = taps // 2 - 1 if offsets[i] + taps // 2 > 0.5 else taps // 2
        weights[nearest, i] += np.int16(left[i])


@njit(**_OPTIONS)
def _catmull_rom(distance):
    one, two, half = np.float32(1), np.float32(2), np.float32(0.5)
    near = (np.float32(1.5) * distance - np.float32(2.5)) * distance * distance + one
    far = ((np.float32(2.5) - half * distance) * distance - np.float32(4)) * distance + two
    return near if distance < one else (far if distance < two else np.float32(0))


@njit(**_OPTIONS)
def _fill_groups(table, groups):
    """Arrange taps for blocks of 16 outputs: groups 0 and 2 make one vector of two lanes, groups 1 and 3 another.

    Of a lane of 16 bytes, each output has four: the samples that two neighbouring taps read, as 16-bit numbers (0x80
    stands for a zero), and in the same way the two taps' weights.
    """
    (starts, weights), (firsts, masks, pairs) = table, groups
    taps, count = weights.shape
    for group in range(4 * len(firsts)):
        block, at = group // 4, group % 2 * 8 + group % 4 // 2 * 4
        lead = starts[min(4 * group, count - 1)]
        firsts[block, group % 4] = lead + BORDER
        for place in range(4):
            output = min(4 * group + place, count - 1)
            offset = np.uint32(starts[output] - lead)
            masks[block, at + place] = offset | np.uint32(offset + 1) << np.uint32(16) | np.uint32(0x80008000)
            for pair in range(taps // 2):
                near, far = np.uint32(weights[2 * pair, output]), np.uint32(weights[2 * pair + 1, output])
                pairs[block, 16 * pair + at + place] = near & np.uint32(0xFFFF) | far << np.uint32(16)


@njit(**_OPTIONS)
def _resample_narrow(source, groups, rows, scratch, out, like):
    """Fill `out` in blocks, with as many taps along both axes as `like` has items."""
    (starts, weights), (ring, sums) = rows, scratch
    height, width = np.uint64(out.shape[0]), np.uint64(out.shape[1])
    size, slots, made = np.uint64(len(source)), np.uint64(len(ring)), np.uint64(0)
    whole = width // np.uint64(32) * np.uint64(32)
    for i in range(height):
        first, stop = _rows_read(starts[i], len(like), size)
        made = max(made, first)
        while made < stop:
            # Two rows at a time share weights; one more than needed is the next output row's.
            pair = made, min(made + np.uint64(1), size - np.uint64(1))
            kept = pair[0] % slots, pair[1] % slots
            for block in range(np.uint64(len(groups[0]))):
                scale_block(source, pair, groups, block, ring, kept, like)
            made += np.uint64(2)
        read, shares = ring_rows(starts[i], size, slots, like), column_of(weights, i, like)
        for column in range(np.uint64(0), whole, np.uint64(32)):
            blend_block(ring, read, column, shares, out, (i, column))
        if whole < width:
            _blend_few(ring, read, shares, (whole, width), sums)
            _settle(sums, np.int32(5), (whole, width), out, i)


@njit(**_OPTIONS)
def _resample_wide(source, table, rows, scratch, out):
    """Fill `out` with any number of taps, in 32-bit sums."""
    (starts, weights), (ring, sums) = rows, scratch
    height, width = np.uint64(out.shape[0]), np.uint64(out.shape[1])
    size, slots, made = np.uint64(len(source)), np.uint64(len(ring)), np.uint64(0)
    for i in range(height):
        first, stop = _rows_read(starts[i], len(weights), size)
        for row in range(max(made, first), stop):
            _scale_row(source, row, table, ring[row % slots])
        made = max(made, stop)
        sums[:] = 0
        for k in range(len(weights)):
            row = np.uint64(min(max(np.int64(starts[i]) + k, 0), np.int64(size) - 1)) % slots
            for column in range(width):
                sums[column] += np.int32(ring[row, column]) * np.int32(weights[k, i])
        _settle(sums, np.int32(20), (np.uint64(0), width), out, i)


@njit(**_OPTIONS)
def _rows_read(start, taps, size):
    last = np.int64(size) - 1
    return np.uint64(min(max(np.int64(start), 0), last)), np.uint64(min(max(start + taps - 1, 0), last) + 1)


@njit(**_OPTIONS)
def _scale_row(source, row, table, scaled):
    """Scale one source row across with any number of taps."""
    starts, weights = table
    last = source.shape[1] - 2 * np.int64(BORDER) - 1
    for column in range(np.uint64(len(starts))):
        total = np.int32(0)
        for k in range(len(weights)):
            place = min(max(starts[column] + k, 0), last) + np.int64(BORDER)
            total += np.int32(source[row, np.uint64(place)]) * np.int32(weights[k, column])
        scaled[column] = total >> 8


@njit(**_OPTIONS)
def _blend_few(ring, read, shares, columns, sums):
    """Fill `sums` as `blend_block` does, where less than a block is left."""
    for column in range(columns[0], columns[1]):
        total = np.int32(0)
        for k in range(len(read)):
            part = np.int32(ring[read[k], column]) * np.int32(shares[k])
            total += ((part >> np.int32(14)) + np.int32(1)) >> np.int32(1)
        sums[column] = total


@njit(**_OPTIONS)
def _settle(sums, shift, columns, out, row):
    """Write the samples that sums stand for which are `shift` bits too large."""
    half = np.int32(1) << (shift - np.int32(1))
    for column in range(columns[0], columns[1]):
        settled = np.int32(sums[column] + half) >> shift
        out[row, column] = np.uint8(min(max(settled, np.int32(0)), np.int32(255)))
