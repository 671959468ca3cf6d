"""Noise, gradients, blending and the final film look, shared by every scene.

A picture is float32 of shape (3, height, width), red plane first, 0 to 1 as displayed. Planes lie apart because
arithmetic between a picture and a mask is several times faster that way than with interleaved channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Picture = NDArray[np.float32]
Stops = list[tuple[float, str]]

_BAND_ROWS = 48  # the rows that stay in the cache while the last steps pass over them
_LUT_SIZE = 2048


def colour(code: str) -> Plane:
    """Return the colour written as `#rrggbb`, as float32 of shape (3,), 0 to 1."""
    return np.array(_parts(code), np.float32) / 255


def bgr(code: str, gain: float = 1.0) -> tuple[float, float, float]:
    """Return a colour as OpenCV's drawing calls take it: blue first, 0 to 255, times `gain`."""
    red, green, blue = _parts(code)
    return min(255.0, blue * gain), min(255.0, green * gain), min(255.0, red * gain)


@cache
def _parts(code: str) -> tuple[int, int, int]:
    """Return red, green and blue, 0 to 255; kept, as the scenes ask for the same few colours 100,000 times."""
    return int(code[1:3], 16), int(code[3:5], 16), int(code[5:7], 16)


def table(stops: Stops) -> Plane:
    """Return a colour ramp sampled evenly from 0 to 1, float32 of shape (3, 2048)."""
    places = np.linspace(0, 1, _LUT_SIZE)
    colours = np.stack([colour(code) for _, code in stops])
    at = [stop for stop, _ in stops]
    return np.stack([np.interp(places, at, colours[:, plane]) for plane in range(3)]).astype(np.float32)


def ramp(values: Plane, stops: Stops) -> Picture:
    """Return the picture that gives each value (0 to 1, clipped) its colour on the ramp."""
    index = np.clip(values * (_LUT_SIZE - 1), 0, _LUT_SIZE - 1).astype(np.int32)
    return np.stack([np.take(plane, index) for plane in table(stops)])


def vertical(shape: tuple[int, int], stops: Stops) -> Picture:
    """Return a picture of `shape` (height, width) whose rows follow the ramp from top to bottom."""
    column = ramp(np.linspace(0, 1, shape[0], dtype=np.float32), stops)
    return np.ascontiguousarray(np.broadcast_to(column[:, :, None], (3, *shape)))


def smooth(values: Plane, low: float, high: float) -> Plane:
    """Return 0 below `low`, 1 above `high` (or the reverse where high < low), and a soft step between."""
    part = (values - np.float32(low)) * np.float32(1 / (high - low))
    np.clip(part, 0, 1, out=part)
    step = 3 - 2 * part
    step *= part
    step *= part
    return step


def grid(shape: tuple[int, int]) -> tuple[Plane, Plane]:
    """Return row positions (height, 1) and column positions (1, width), both from 0 to 1."""
    rows = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None]
    return rows, np.linspace(0, 1, shape[1], dtype=np.float32)[None, :]


def fractal(
    rng: np.random.Generator,
    shape: tuple[int, int],
    cell: float,
    *,
    finest: float = 1.0,
    gain: float = 0.5,
    stretch: float = 1.0,
) -> Plane:
    """Return cloud-like noise with mean 0 and deviation about 1, each octave added while the grid is still small.

    Args:
        rng: Where the noise comes from.
        shape: Height and width in pixels.
        cell: Height in pixels of the largest features.
        finest: Height in pixels of the smallest features.
        gain: How strong each octave is, against the one before.
        stretch: How many times wider than high the features are.
    """
    total, weight, power = None, 1.0, 0.0
    while total is None or cell >= finest:
        rows = max(2, math.ceil(shape[0] / cell) + 1)
        columns = max(2, math.ceil(shape[1] / (cell * stretch)) + 1)
        layer = rng.standard_normal((rows, columns), dtype=np.float32) * np.float32(weight)
        total = layer if total is None else layer + cv2.resize(total, (columns, rows), interpolation=cv2.INTER_CUBIC)
        power += weight * weight
        cell, weight = cell / 2, weight * gain
    return cv2.resize(total, shape[::-1], interpolation=cv2.INTER_CUBIC) / np.float32(math.sqrt(power))


def curve(rng: np.random.Generator, count: int, cell: float, *, gain: float = 0.5) -> Plane:
    """Return one line of fractal noise, float32 of shape (count,)."""
    return fractal(rng, (4, count), 4.0, finest=4.0 * 2 / max(2.0, cell), gain=gain, stretch=cell / 4.0)[1]


def mix(picture: Picture, paint: Picture | Plane, amount: Plane | float) -> None:
    """Move `picture` towards `paint`, a colour (3,) or a picture, by `amount` from 0 to 1, in place."""
    for part in _bands(picture):
        weight = _rows(amount, part, picture)
        for plane, target in zip(picture, paint, strict=True):
            step = _rows(target, part, picture) - plane[part]
            step *= weight
            plane[part] += step


def add(picture: Picture, paint: Picture | Plane, amount: Plane | float = 1.0) -> None:
    """Add light of the colour `paint` to `picture`, in place."""
    for part in _bands(picture):
        weight = _rows(amount, part, picture)
        for plane, light in zip(picture, paint, strict=True):
            plane[part] += _rows(light, part, picture) * weight


def _bands(picture: Picture) -> Iterator[slice]:
    """Yield slices of rows so small that temporary arrays stay in the cache, which halves the time of a blend."""
    for top in range(0, picture.shape[1], _BAND_ROWS):
        yield slice(top, top + _BAND_ROWS)


def _rows(values: Plane | float, part: slice, picture: Picture) -> Plane | float:
    """Return the rows `part` of what has as many rows as the picture; anything else is the same for all rows."""
    return values[part] if np.ndim(values) == 2 and len(values) == picture.shape[1] else values


def stamp(picture: Picture, alpha: Plane, paint: Picture | Plane, left: int, top: int) -> None:
    """Mix a small picture or a colour into `picture` at (left, top); what lies outside is cut off.

    Args:
        picture: Changed in place.
        alpha: Coverage from 0 to 1, float32 of shape (h, w).
        paint: A colour (3,) or a picture (3, h, w).
        left: Column of the stamp's left edge, may be negative.
        top: Row of the stamp's upper edge, may be negative.
    """
    first_row, first_column = max(0, -top), max(0, -left)
    last_row = min(alpha.shape[0], picture.shape[1] - top)
    last_column = min(alpha.shape[1], picture.shape[2] - left)
    if first_row >= last_row or first_column >= last_column:
        return
    part = np.s_[first_row:last_row, first_column:last_column]
    window = picture[:, top + first_row : top + last_row, left + first_column : left + last_column]
    mix(window, paint[:, *part] if paint.ndim == 3 else paint, alpha[part])


def to_picture(canvas: NDArray[np.uint8]) -> Picture:
    """Return OpenCV's canvas (height, width, 3), blue first, as a picture."""
    return np.stack([cv2.extractChannel(canvas, plane).astype(np.float32) / np.float32(255) for plane in (2, 1, 0)])


def blur(plane: Plane, radius: float) -> Plane:
    """Return the plane blurred by a Gaussian of `radius` pixels, made at a lower resolution where that is enough."""
    step = max(1, int(radius / 3))
    if step == 1:
        return cv2.GaussianBlur(plane, (0, 0), max(0.1, radius))
    size = (max(1, plane.shape[1] // step), max(1, plane.shape[0] // step))
    small = cv2.GaussianBlur(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), (0, 0), radius / step)
    return cv2.resize(small, plane.shape[::-1], interpolation=cv2.INTER_LINEAR)


def bloom(picture: Picture, radius: float, strength: float, threshold: float = 0.6) -> None:
    """Let what is brighter than `threshold` glow into its surroundings, in place."""
    for index, plane in enumerate(picture):
        glow = blur(np.maximum(plane - np.float32(threshold), 0), radius)
        glow *= np.float32(strength) * (1 - np.minimum(plane, 1))
        picture[index] += glow


def mirror(picture: Picture, line: int, shift: Plane, drift: Plane | None = None) -> Picture:
    """Return what water below the row `line` mirrors of the picture above it.

    Args:
        picture: What stands above the water.
        line: The row of the waterline.
        shift: How far each mirrored pixel is moved up or down, in pixels, shape (height - line, width).
        drift: How far it is moved sideways.
    """
    rows, columns = shift.shape
    across = np.broadcast_to(np.arange(columns, dtype=np.float32), shift.shape)
    across = across.copy() if drift is None else across + drift
    down = np.clip(line - 1 - np.arange(rows, dtype=np.float32)[:, None] + shift, 0, line - 1)
    modes = {"interpolation": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REFLECT}
    return np.stack([cv2.remap(plane[:line], across, down, **modes) for plane in picture])


def finish(
    rng: np.random.Generator, picture: Picture, *, grain: float = 0.012, vignette: float = 0.25
) -> NDArray[np.uint8]:
    """Return the picture as a camera would give it: darker corners, a soft shoulder, film grain, 8 bits.

    Returns:
        uint8 of shape (height, width, 3), blue first, as OpenCV stores it.
    """
    height, width = picture.shape[1:]
    noise = rng.standard_normal((_BAND_ROWS, width + 64), dtype=np.float32) * np.float32(grain)
    across = np.linspace(-1, 1, width, dtype=np.float32) ** 2
    canvas = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _BAND_ROWS):
        rows = np.linspace(-1, 1, height, dtype=np.float32)[top : top + _BAND_ROWS, None] ** 2
        start = int(rng.integers(64))  # else the grain would repeat itself, band after band
        light = 1 - np.float32(vignette / 2) * (rows + across)
        canvas[top : top + _BAND_ROWS] = _develop(
            picture[:, top : top + _BAND_ROWS], light, noise[: len(rows), start : start + width]
        )
    return canvas


def _develop(band: Picture, light: Plane, grain: Plane) -> NDArray[np.uint8]:
    """Return one band of rows as 8 bits, highlights rolled off above 0.8 and never clipped hard."""
    planes = []
    for plane in band[::-1]:
        value = plane * light
        over = np.maximum(value - np.float32(0.8), 0)
        value += over * (np.float32(0.2) / (over + np.float32(0.2)) - 1) + grain
        planes.append(np.clip(value * 255, 0, 255).astype(np.uint8))
    return cv2.merge(planes)
