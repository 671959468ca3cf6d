"""From decoded pixels to BT.709 limited range, in integers."""

from __future__ import annotations

import functools

import numpy as np
from numba import njit, types
from numba.core.dispatcher import Dispatcher

__all__ = ["convert_to_bt709", "kernel"]

# Source: ITU-R BT.709-6, 3.2 and 3.5: luma weights of red and blue, excursions of 8-bit luma and chroma.
_RED, _BLUE = 0.2126, 0.0722
_LUMA_STEPS, _CHROMA_STEPS = 219, 224

_BITS = 16
_HALF = 1 << (_BITS - 1)


def convert_to_bt709(bgr: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Y, Cb and Cr as 4:2:0, all in integers; Y is within 0.501 of the exact value, chroma within 0.51.

    Chroma is sited left and halfway down, and halved by the same bicubic kernel that makes frames.
    swscale's bit-exact conversion took ten times as long for luma alone, and was off by up to 0.508.

    Args:
        bgr: (height, width, 3) uint8, full range, C-contiguous.

    Returns:
        uint8, limited range: (height, width) and twice (height/2, width/2), rounded up.
    """
    height, width, _ = bgr.shape
    half = (-(-height // 2), -(-width // 2))
    planes = (np.empty((height, width), np.uint8), np.empty(half, np.uint8), np.empty(half, np.uint8))
    kernel()(bgr.reshape(height, 3 * width), *planes)
    return planes


def _integer_weights() -> tuple[tuple[int, int, int], ...]:
    """Return weights of blue, green and red for Y, Cb and Cr; those of a chroma plane add up to 0."""
    green = 1 - _RED - _BLUE
    luma, chroma = _LUMA_STEPS / 255 * (1 << _BITS), _CHROMA_STEPS / 255 * (1 << _BITS)
    y_blue, y_red = round(_BLUE * luma), round(_RED * luma)
    half = round(chroma / 2)
    u_red, v_blue = round(-_RED / (2 * (1 - _BLUE)) * chroma), round(-_BLUE / (2 * (1 - _RED)) * chroma)
    return (y_blue, round(green * luma), y_red), (half, -half - u_red, u_red), (v_blue, -half - v_blue, half)


_WEIGHTS = np.array(_integer_weights(), np.int32)
_Y_ZERO = np.int32((16 << _BITS) + _HALF)
_FINE = 6  # bits that are cut from a chroma sum before it is filtered, so that 32 bits hold what comes of it
_LEVEL = _BITS - _FINE + 5  # bits behind the point of a filtered one: the weights across add up to 32
_C_ZERO = np.int32((128 << _LEVEL) + (1 << (_LEVEL - 1)))

# Catmull-Rom widened by 2, at the distances of rows and columns from a chroma sample between two rows: of the
# weights down, nearest first, twice the sum is 256; those across, of which every second is 0, add up to 32.
_DOWN = np.array([111, 29, -9, -3], np.int32)
_REACH = 3  # columns on each side


@functools.cache
def kernel() -> Dispatcher:
    """Return the loop, compiled or loaded from numba's cache."""
    source = types.Array(types.uint8, 2, "C", readonly=True)
    plane = types.uint8[:, ::1]
    return njit(types.void(source, plane, plane, plane), cache=True, nogil=True, error_model="numpy")(_convert)


def _convert(bgr, y, u, v):  # noqa: ANN001, ANN202 -- typed in `kernel`
    height, width = y.shape
    ring = np.empty((8, 2, width), np.int32)  # chroma of the rows that the next sample reaches
    lines = np.empty((2, width + 2 * _REACH + 1), np.int32)  # blended rows; beyond both ends the edge is repeated
    done = 0
    for pair in range(u.shape[0]):
        while done < min(2 * pair + 5, height):
            _convert_row(bgr, done, y, ring[done % 8])
            done += 1
        _blend_rows(ring, pair, height, lines)
        for j in range(u.shape[1]):
            u[pair, j] = _halve(lines[0], 2 * j)
            v[pair, j] = _halve(lines[1], 2 * j)


@njit(nogil=True, error_model="numpy")
def _convert_row(bgr, row, y, chroma):  # noqa: ANN001, ANN202
    for j in range(y.shape[1]):
        blue, green, red = np.int32(bgr[row, 3 * j]), np.int32(bgr[row, 3 * j + 1]), np.int32(bgr[row, 3 * j + 2])
        luma = _WEIGHTS[0, 0] * blue + _WEIGHTS[0, 1] * green + _WEIGHTS[0, 2] * red
        y[row, j] = np.uint8((luma + _Y_ZERO) >> _BITS)
        chroma[0, j] = (_WEIGHTS[1, 0] * blue + _WEIGHTS[1, 1] * green + _WEIGHTS[1, 2] * red) >> _FINE
        chroma[1, j] = (_WEIGHTS[2, 0] * blue + _WEIGHTS[2, 1] * green + _WEIGHTS[2, 2] * red) >> _FINE


@njit(nogil=True, error_model="numpy")
def _blend_rows(ring, pair, height, lines):  # noqa: ANN001, ANN202
    width = ring.shape[2]
    places = np.empty(8, np.int64)
    for k in range(8):
        places[k] = min(max(2 * pair - 3 + k, 0), height - 1) % 8
    for plane in range(2):
        a, b, c, d = ring[places[3], plane], ring[places[2], plane], ring[places[1], plane], ring[places[0], plane]
        e, f, g, h = ring[places[4], plane], ring[places[5], plane], ring[places[6], plane], ring[places[7], plane]
        for j in range(width):
            near, second = np.int32(a[j] + e[j]), np.int32(b[j] + f[j])
            third, far = np.int32(c[j] + g[j]), np.int32(d[j] + h[j])
            blended = _DOWN[0] * near + _DOWN[1] * second + _DOWN[2] * third + _DOWN[3] * far
            lines[plane, j + _REACH] = np.int32(blended + 128) >> 8
        lines[plane, :_REACH] = lines[plane, _REACH]
        lines[plane, width + _REACH :] = lines[plane, width + _REACH - 1]


@njit(nogil=True, error_model="numpy")
def _halve(line, j):  # noqa: ANN001, ANN202
    near, far = line[j + 2] + line[j + 4], line[j] + line[j + 6]
    level = (16 * line[j + 3] + 9 * near - far + _C_ZERO) >> _LEVEL
    return np.uint8(min(max(level, 0), 255))
