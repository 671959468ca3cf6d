"""From decoded pixels to BT.709 limited range, in integers."""

from __future__ import annotations

import functools

import numpy as np
from numba import njit, types
from numba.core.dispatcher import Dispatcher

from fanreel.draw.kernel_sources import hash_sources
from fanreel.draw.resample import BorderedPlane
from fanreel.draw.resample_kernels import BORDER

__all__ = ["convert_to_bt709", "kernel"]

# Source: ITU-R BT.709-6, 3.2 and 3.5: luma weights of red and blue, excursions of 8-bit luma and chroma.
_RED, _BLUE = 0.2126, 0.0722
_LUMA_STEPS, _CHROMA_STEPS = 219, 224

_BITS = 16
_HALF = 1 << (_BITS - 1)


def convert_to_bt709(bgr: np.ndarray) -> tuple[BorderedPlane, BorderedPlane, BorderedPlane]:
    """Return Y, Cb and Cr of every pixel, each rounded from a value within 0.002 of the exact one.

    swscale's bit-exact conversion took eight to ten times as long, and its error was up to 0.508.

    Args:
        bgr: (height, width, 3) uint8, full range, C-contiguous.

    Returns:
        Three times (height, width), limited range.
    """
    height, width, _ = bgr.shape
    y, u, v = (BorderedPlane.empty(height=height, width=width) for _ in range(3))
    kernel()(bgr.reshape(height, 3 * width), y.bordered, u.bordered, v.bordered)
    for plane in (y, u, v):
        plane.repeat_edges()
    return y, u, v


def _integer_weights() -> tuple[tuple[int, int, int], ...]:
    """Return weights of blue, green and red for Y, Cb and Cr; those of a chroma plane add up to 0."""
    green = 1 - _RED - _BLUE
    luma, chroma = _LUMA_STEPS / 255 * (1 << _BITS), _CHROMA_STEPS / 255 * (1 << _BITS)
    y_blue, y_red = round(_BLUE * luma), round(_RED * luma)
    half = round(chroma / 2)
    u_red, v_blue = round(-_RED / (2 * (1 - _BLUE)) * chroma), round(-_BLUE / (2 * (1 - _RED)) * chroma)
    return (y_blue, round(green * luma), y_red), (half, -half - u_red, u_red), (v_blue, -half - v_blue, half)


_WEIGHTS = np.array(_integer_weights(), np.int32)
_Y_ZERO, _C_ZERO = np.int32((16 << _BITS) + _HALF), np.int32((128 << _BITS) + _HALF)


@functools.cache
def kernel() -> Dispatcher:
    """Return the conversion of an array's rows, compiled or loaded from numba's cache."""
    made_from = hash_sources("bt709.py", "resample_kernels.py")  # of the latter, BORDER
    source = types.Array(types.uint8, 2, "C", readonly=True)
    plane = types.uint8[:, ::1]

    @njit(types.void(source, plane, plane, plane), cache=True, nogil=True, error_model="numpy")
    def convert(bgr, y, u, v):  # noqa: ANN001, ANN202 - typed by its signature
        _ = made_from
        height, width = len(bgr), bgr.shape[1] // 3
        for i in range(height):
            for j in range(width):
                blue, green, red = np.int32(bgr[i, 3 * j]), np.int32(bgr[i, 3 * j + 1]), np.int32(bgr[i, 3 * j + 2])
                luma = _WEIGHTS[0, 0] * blue + _WEIGHTS[0, 1] * green + _WEIGHTS[0, 2] * red
                cb = _WEIGHTS[1, 0] * blue + _WEIGHTS[1, 1] * green + _WEIGHTS[1, 2] * red
                cr = _WEIGHTS[2, 0] * blue + _WEIGHTS[2, 1] * green + _WEIGHTS[2, 2] * red
                y[i, BORDER + j] = np.uint8((luma + _Y_ZERO) >> _BITS)
                u[i, BORDER + j] = np.uint8((cb + _C_ZERO) >> _BITS)
                v[i, BORDER + j] = np.uint8((cr + _C_ZERO) >> _BITS)

    return convert
