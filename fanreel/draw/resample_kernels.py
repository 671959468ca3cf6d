"""The compiled loops of the resampler.

Rows of the source are scaled across first, into a ring that holds the rows of the next output row, so small that it
stays in the nearest caches. An output row is a weighted sum of them. Across, a sample of value v becomes 64 v, rounded
once. Down, each tap is rounded to 1/32 of a grey level, which keeps a constant plane constant for up to 16 taps; with
more taps, the sums have 32 bits.
"""

# numba's intrinsics are called without their first argument:
# pyright: reportCallIssue=false
# ruff: noqa: ANN001, ANN202 - what numba compiles is typed in `_signature`

from __future__ import annotations

import functools

import numpy as np
from numba import literal_unroll, njit, types
from numba.core.dispatcher import Dispatcher

from fanreel.draw.kernel_sources import hash_sources
from fanreel.draw.resample_blocks import BLENDED, SCALED, UNIT, blend_block, items, row_address, scale_block

__all__ = ["BORDER", "TAP_COUNTS", "kernel"]

BORDER = 64  # copies of the edge on either side of a source row: what the taps and loads of a block may reach
TAP_COUNTS = (4, 6, 8, 12, 16)  # up to step 4, where two taps of four outputs read at most 14 neighbouring samples
_UNROLLED = tuple((0,) * taps for taps in TAP_COUNTS)

_OPTIONS = {"nogil": True, "error_model": "numpy", "boundscheck": False}


@functools.cache
def kernel() -> Dispatcher:
    """Return the resampler of one plane, compiled or loaded from numba's cache.

    It fills `out`, and before that the tables where the maps are fresh. Indices are uint64: numba would let a signed
    one count from the end.
    """
    made_from = hash_sources("resample_kernels.py", "resample_blocks.py")

    @njit(_signature(), cache=True, **_OPTIONS)
    def resample(source, maps, fresh, tables, scratch, out):
        _ = made_from
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

    return resample


def _signature():
    taps = types.Tuple((types.int32[::1], types.int16[:, ::1]))
    groups = types.UniTuple(types.uint32[:, ::1], 3)
    source = types.Array(types.uint8, 2, "C", readonly=True)
    maps, tables = types.UniTuple(types.float64, 4), types.Tuple((taps, groups, taps))
    scratch = types.Tuple((types.int16[:, ::1], types.int32[::1]))
    return types.void(source, maps, types.boolean, tables, scratch, types.uint8[:, :])


@njit(**_OPTIONS)
def _fill_taps(origin, step, size, table):
    """Fill one axis' first taps and weights. What rounding leaves goes to the largest weight, of the nearest tap."""
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
    size, made = np.uint64(len(source)), np.uint64(0)
    slots = np.uint64(len(ring) - 1)  # a power of two less one: `&` takes no time, `%` does
    whole = width // np.uint64(BLENDED) * np.uint64(BLENDED)
    taps = np.empty((2, len(like)), np.uint64)  # where each tap's row of the ring starts, and the tap's weight
    for i in range(height):
        first, stop = _rows_read(starts[i], len(like), size)
        made = max(made, first)
        while made < stop:
            # Two rows at a time share weights; one more than needed is the next output row's.
            pair = made, min(made + np.uint64(1), size - np.uint64(1))
            _scale_rows(source, pair, groups, ring, (pair[0] & slots, pair[1] & slots), like)
            made += np.uint64(2)
        for k in range(len(like)):
            row = np.uint64(min(max(np.int64(starts[i]) + k, 0), np.int64(size) - 1))
            taps[0, k] = row_address(ring, row & slots)
            taps[1, k] = np.uint64(np.int64(weights[k, i]))
        read, shares = items(row_address(taps, 0), like), items(row_address(taps, 1), like)
        target = row_address(out, i)
        for column in range(np.uint64(0), whole, np.uint64(BLENDED)):
            blend_block(read, np.uint64(2) * column, shares, target + column)
        if whole < width:
            _blend_few(ring, starts[i], size, weights[:, i], (whole, width), sums)
            _settle(sums, np.int32(5), (whole, width), out, i)


@njit(**_OPTIONS)
def _scale_rows(source, rows, groups, ring, slots, like):
    """Scale two rows of the source across, into two slots of the ring."""
    firsts, masks, pairs = groups
    sources = row_address(source, rows[0]), row_address(source, rows[1])
    outs = row_address(ring, slots[0]), row_address(ring, slots[1])
    for block in range(np.uint64(len(firsts))):
        tables = row_address(firsts, block), row_address(masks, block), row_address(pairs, block)
        done = block * np.uint64(2 * SCALED)
        scale_block(sources, tables, (outs[0] + done, outs[1] + done), like)


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
def _blend_few(ring, start, size, shares, columns, sums):
    """Fill `sums` as `blend_block` does, where less than a block is left."""
    for column in range(columns[0], columns[1]):
        total = np.int32(0)
        for k in range(len(shares)):
            row = np.uint64(min(max(np.int64(start) + k, 0), np.int64(size) - 1)) % np.uint64(len(ring))
            part = np.int32(ring[row, column]) * np.int32(shares[k])
            total += ((part >> np.int32(14)) + np.int32(1)) >> np.int32(1)
        sums[column] = total


@njit(**_OPTIONS)
def _settle(sums, shift, columns, out, row):
    """Write one row of samples from sums that are 2**`shift` times as large, rounded and cut to 0..255."""
    half = np.int32(1) << (shift - np.int32(1))
    for column in range(columns[0], columns[1]):
        settled = np.int32(sums[column] + half) >> shift
        out[row, column] = np.uint8(min(max(settled, np.int32(0)), np.int32(255)))
