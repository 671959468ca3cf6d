"""Sailing boats at their moorings, seen from the side."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from scenes.paint import Picture, bgr, stamp, to_picture

Point = tuple[float, float]
_MAST, _BOOM_END = (0.06, -1.66), (-0.44, -0.37)
_SHROUDS = [(0.56, -0.20), (-0.49, -0.16), (0.18, -0.20), (-0.06, -0.20)]


@dataclass(frozen=True, slots=True)
class _Sketch:
    """A boat being drawn: its lengths are fractions of the hull's, measured from the middle of the waterline.

    Attributes:
        canvas: Colours, uint8 (h, w, 3), blue first.
        cover: Where there is boat, uint8 (h, w).
        size: Length of the hull in pixels.
    """

    canvas: NDArray[np.uint8]
    cover: NDArray[np.uint8]
    size: float

    def place(self, points: list[Point]) -> NDArray[np.int32]:
        """Return the points in sixteenths of a pixel, int32 (n, 2)."""
        height, width = self.cover.shape
        return ((np.array(points) * self.size + [width / 2, height]) * 16).astype(np.int32)

    def area(self, points: list[Point], code: str, gain: float = 1.0) -> None:
        """Fill a polygon; the colour reaches a pixel further than the cover, else edges would mix with black."""
        outline = self.place(points)
        cv2.polylines(self.canvas, [outline], True, bgr(code, gain), 2, cv2.LINE_8, 4)
        cv2.fillPoly(self.canvas, [outline], bgr(code, gain), cv2.LINE_8, 4)
        cv2.fillPoly(self.cover, [outline], 255, cv2.LINE_AA, 4)

    def rope(self, start: Point, end: Point, code: str, thick: float, gain: float = 1.0) -> None:
        """Draw a rope or a spar, `thick` as a fraction of the hull's length."""
        first, last = self.place([start, end]).tolist()
        pixels = max(1, round(thick * self.size))
        cv2.line(self.canvas, first, last, bgr(code, gain), pixels + 2, cv2.LINE_8, 4)
        cv2.line(self.cover, first, last, 255, pixels, cv2.LINE_AA, 4)


def moor(rng: np.random.Generator, picture: Picture, foot: Point, size: float, code: str) -> None:
    """Stamp a boat into the picture.

    Args:
        rng: How its flag flies.
        picture: Changed in place.
        foot: Column and row of the middle of its waterline.
        size: Length of its hull in pixels.
        code: Colour of its hull.
    """
    high, wide = round(size * 1.75), round(size * 1.3)
    sketch = _Sketch(np.zeros((high, wide, 3), np.uint8), np.zeros((high, wide), np.uint8), size)
    _rigging(rng, sketch)
    _hull(sketch, code)
    _deck(sketch)
    _sail(sketch)
    shade = to_picture(sketch.canvas) * np.linspace(1.06, 0.9, wide, dtype=np.float32)
    stamp(picture, sketch.cover.astype(np.float32) / 255, shade, int(foot[0] - wide / 2), int(foot[1] - high))


def _hull(sketch: _Sketch, code: str) -> None:
    """Draw the hull plank by plank, lighter towards the deck, with a red bottom and a wooden rail."""
    sketch.area([(-0.50, -0.16), (0.56, -0.20), (0.44, 0.0), (-0.42, 0.0)], code)
    planks = 7
    for plank in range(planks):
        upper, lower = 1 - plank / planks, 1 - (plank + 1) / planks
        edges = [(-0.42 - 0.08 * part, -0.16 * part) for part in (upper, lower)]
        edges += [(0.44 + 0.12 * part, -0.20 * part) for part in (lower, upper)]
        sketch.area(edges, code, 1.04 - 0.07 * plank)
        sketch.rope(edges[1], edges[2], code, 0.0015, 0.62 - 0.03 * plank)
    sketch.area([(-0.445, -0.05), (0.475, -0.06), (0.44, 0.0), (-0.42, 0.0)], "#7a2a24", 0.85)
    sketch.rope((-0.445, -0.052), (0.475, -0.062), "#efe6d4", 0.006)
    sketch.area([(-0.50, -0.165), (0.57, -0.205), (0.56, -0.18), (-0.49, -0.14)], "#8a5a34", 1.1)


def _deck(sketch: _Sketch) -> None:
    """Draw the cabin with its windows, the railing and a lifebuoy."""
    sketch.area([(-0.27, -0.15), (-0.24, -0.25), (0.16, -0.25), (0.24, -0.17)], "#efe6d4")
    sketch.area([(-0.25, -0.245), (-0.24, -0.262), (0.165, -0.262), (0.18, -0.245)], "#a9743f")
    for x in (-0.18, -0.07, 0.04):
        sketch.area([(x, -0.23), (x + 0.075, -0.23), (x + 0.075, -0.185), (x, -0.185)], "#8d7a5c")
        sketch.area([(x + 0.006, -0.225), (x + 0.069, -0.225), (x + 0.069, -0.19), (x + 0.006, -0.19)], "#24343f")
        sketch.rope((x + 0.02, -0.196), (x + 0.04, -0.22), "#8fb0c2", 0.004)
    for x in np.linspace(-0.47, 0.52, 12):
        sketch.rope((x, -0.175 - 0.02 * x), (x, -0.225 - 0.02 * x), "#c9c4ba", 0.003)
    sketch.rope((-0.47, -0.216), (0.52, -0.236), "#d8d4ca", 0.0025)
    for start in np.linspace(0, 2 * np.pi, 8, endpoint=False):
        ring = [(-0.36 + 0.024 * np.cos(turn), -0.2 + 0.024 * np.sin(turn)) for turn in (start, start + np.pi / 4)]
        sketch.rope(ring[0], ring[1], "#f4efe4" if round(start / (np.pi / 4)) % 2 else "#d8442c", 0.012)


def _rigging(rng: np.random.Generator, sketch: _Sketch) -> None:
    """Draw the mast with its crosstree, shrouds and flag."""
    for end in _SHROUDS:
        sketch.rope((0.06, -1.62), end, "#3c3a38", 0.0028)
    for step in np.linspace(0.12, 0.62, 11):  # the ratlines between the shrouds
        side = 0.12 * (1 - step)
        row = -0.20 - 1.42 * step
        sketch.rope((0.06 - side, row), (0.06 + side, row), "#4a4640", 0.0018)
    sketch.rope((0.06, -0.2), _MAST, "#b98a5a", 0.017)
    sketch.rope((0.063, -0.2), (0.063, -1.66), "#8a6238", 0.005)
    sketch.rope((-0.06, -1.15), (0.18, -1.15), "#8a6238", 0.009)
    flag = 0.09 * (1 + 0.2 * rng.random())
    sketch.area([_MAST, (0.06 - flag, -1.64), (0.06, -1.61)], "#d8342c")


def _sail(sketch: _Sketch) -> None:
    """Draw the boom and the sail furled on it, tied at even distances."""
    sketch.rope((0.06, -0.375), (-0.44, -0.345), "#8a6238", 0.014)
    sketch.rope((0.05, -0.405), _BOOM_END, "#f0e8d6", 0.036)
    sketch.rope((0.05, -0.395), (-0.43, -0.360), "#c9bda4", 0.012)
    for part in np.linspace(0.08, 0.92, 9):
        x, y = 0.05 - 0.49 * part, -0.405 + 0.035 * part
        sketch.rope((x, y - 0.018), (x + 0.006, y + 0.03), "#7a5a3a", 0.004)
