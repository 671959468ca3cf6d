"""Houses seen from the front: walls, sash windows, shutters, flower boxes and tiles, in one low sun from the left."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from scenes.paint import bgr

Canvas = NDArray[np.uint8]
Box = tuple[int, int, int, int]
_FLOWERS = ["#e8383f", "#ff6f91", "#f7c6d9", "#f2a7c3", "#ffffff", "#f4d03f", "#d63aa0"]


def fill(canvas: Canvas, box: Box, code: str, gain: float = 1.0) -> None:
    """Fill the box (left, top, right, bottom), its last row and column not included."""
    left, top, right, bottom = (max(0, part) for part in box)
    canvas[top:bottom, left:right] = np.array(bgr(code, gain), np.uint8)


def darken(canvas: Canvas, box: Box, factor: float) -> None:
    """Multiply what the box holds by `factor`, bluer as a shadow under a clear sky is."""
    left, top, right, bottom = (max(0, part) for part in box)
    part = canvas[top:bottom, left:right]
    if part.size:
        part[:] = (
            (part * np.array([min(1.0, factor * 1.22), factor * 1.03, factor * 0.94])).clip(0, 255).astype(np.uint8)
        )


def window(
    rng: np.random.Generator, canvas: Canvas, box: Box, *, shutters: str | None, flowers: bool, trim: str
) -> None:
    """Draw one window in the box, with a stone surround, glass that mirrors the sky, and what else it has."""
    left, top, right, bottom = box
    wide, tall = right - left, bottom - top
    edge, drop = max(1, wide // 9), max(1, wide // 12)
    if shutters:
        for first in (left - wide * 6 // 10, right + wide // 14):
            _shutter(rng, canvas, (first, top - edge // 2, first + wide * 53 // 100, bottom), shutters)
    darken(canvas, (right + edge, top, right + edge + drop // 2, bottom), 0.6)
    fill(canvas, (left - edge, top - edge, right + edge, bottom), trim)
    darken(canvas, (right + edge // 2, top - edge, right + edge, bottom), 0.82)
    fill(canvas, (left - edge * 3 // 2, top - edge * 2, right + edge * 3 // 2, top - edge), trim, 1.05)
    darken(canvas, (left - edge, top - edge, right + edge, top - edge + drop), 0.66)
    _glass(rng, canvas, box)
    fill(canvas, (left - edge * 2, bottom, right + edge * 2, bottom + edge), trim, 1.06)
    darken(canvas, (left - edge * 2, bottom + edge, right + edge * 2 + drop, bottom + edge + drop * 2), 0.62)
    if flowers:
        _flower_box(rng, canvas, (left - edge, bottom - tall // 14, right + edge, bottom + edge + tall // 12))


def _glass(rng: np.random.Generator, canvas: Canvas, box: Box) -> None:
    """Draw the panes: sky and clouds above, dim room and curtains below, white bars before them."""
    left, top, right, bottom = box
    wide, tall = right - left, bottom - top
    rows = np.linspace(0, 1, tall)[:, None, None]
    columns = np.linspace(0, 1, wide)[None, :, None]
    sky, room = np.array(bgr(str(rng.choice(["#7fa3bd", "#8fb0c2", "#6b8ea8"])))), np.array(bgr("#1c2227"))
    slope = (
        rows * 1.2 + columns * rng.uniform(-0.5, 0.5) + 0.10 * np.sin(columns * rng.uniform(4, 9) + rng.uniform(0, 6))
    )
    canvas[top:bottom, left:right] = (sky + (room - sky) * np.clip(slope * 1.5 - 0.35, 0, 1)).astype(np.uint8)
    if rng.random() < 0.6:
        _curtains(canvas, box, rng.uniform(0.14, 0.34))
    darken(canvas, (left, top, right, top + max(1, tall // 16)), 0.45)
    darken(canvas, (left, top, left + max(1, wide // 14), bottom), 0.5)
    bar = max(1, wide // 20)
    for x in (left, (left + right - bar) // 2, right - bar):
        fill(canvas, (x, top, x + bar, bottom), "#efe9dc")
        darken(canvas, (x + bar, top, min(right, x + bar + max(1, bar // 3)), bottom), 0.6)
    for step in range(4):
        y = top + (tall - bar) * step // 3
        fill(canvas, (left, y, right, y + bar), "#efe9dc")
        darken(canvas, (left, y + bar, right, min(bottom, y + bar + max(1, bar // 3))), 0.6)


def _curtains(canvas: Canvas, box: Box, share: float) -> None:
    """Hang folded curtains at both sides of a window."""
    left, top, right, bottom = box
    wide = max(2, int((right - left) * share))
    folds = 0.72 + 0.16 * np.sin(np.arange(wide) * 2 * np.pi * 4 / wide)[None, :, None]
    for first in (left, right - wide):
        part = canvas[top:bottom, first : first + wide]
        part[:] = (part * 0.35 + np.array(bgr("#e8e0d0")) * 0.62 * folds).clip(0, 255).astype(np.uint8)


def _shutter(rng: np.random.Generator, canvas: Canvas, box: Box, code: str) -> None:
    """Draw an open shutter with slats, a little weathered, and its shadow on the wall."""
    left, top, right, bottom = box
    wide, tall = right - left, bottom - top
    cast, rim = max(1, wide // 7), max(1, wide // 9)
    darken(canvas, (left + cast, top + cast, right + cast, bottom + cast), 0.58)
    fill(canvas, box, code, rng.uniform(0.9, 1.08))
    count = max(4, min(34, tall // 5))
    for half in ((top + rim, top + tall // 2 - rim // 2), (top + tall // 2 + rim // 2, bottom - rim)):
        edges = np.linspace(half[0], half[1], count // 2 + 1).astype(int)
        for first, last in pairwise(edges):
            gain = rng.uniform(0.80, 1.05)
            fill(canvas, (left + rim, first, right - rim, last), code, gain)
            darken(canvas, (left + rim, last - max(1, (last - first) // 3), right - rim, last), 0.55)
            fill(canvas, (left + rim, first, right - rim, first + max(1, (last - first) // 6)), code, 1.35)
    for x in (left, right - rim):
        fill(canvas, (x, top, x + max(1, rim // 3), bottom), code, 1.3)


def _flower_box(rng: np.random.Generator, canvas: Canvas, box: Box) -> None:
    """Draw a box of earthenware with leaves and blossoms that hang over its rim."""
    left, top, right, bottom = box
    wide, tall = right - left, bottom - top
    darken(canvas, (left + tall // 4, bottom, right + tall // 3, bottom + tall // 2), 0.58)
    fill(canvas, box, "#9c4f30")
    darken(canvas, (left, top + tall * 2 // 3, right, bottom), 0.75)
    kinds = rng.choice(_FLOWERS, 2)
    count = int(min(700, 40 + wide * 2.6))
    places = np.column_stack(
        [rng.uniform(left - tall / 4, right + tall / 4, count), top + rng.normal(0.1, 0.36, count) * tall]
    )
    radii = np.maximum(0.8, tall * rng.uniform(0.035, 0.10, count))
    for index, ((x, y), radius) in enumerate(zip(places, radii, strict=True)):
        blossom = index > count * 0.55
        code = str(kinds[index % 2]) if blossom else "#3f6b2c"
        gain = rng.uniform(0.75, 1.15) if blossom else rng.uniform(0.45, 1.25)
        cv2.circle(canvas, (int(x * 8), int(y * 8)), int(radius * 8), bgr(code, gain), -1, cv2.LINE_AA, 3)


def tiles(rng: np.random.Generator, canvas: Canvas, box: Box, pitch: int) -> None:
    """Cover the box with rows of round clay tiles, `pitch` pixels wide, each of its own burnt red."""
    left, top, right, bottom = box
    pitch = max(3, pitch)
    drop = max(2, int(pitch * 0.9))
    codes = ["#b5573a", "#a84d33", "#c46a48", "#9a4630", "#cf7d58", "#8c4a38", "#b96a4a"]
    fill(canvas, box, "#5a2a1e")
    for row, y in reversed(list(enumerate(range(top - drop, bottom, drop)))):
        for x in range(left - pitch + (row % 2) * pitch // 2, right + pitch, pitch):
            paint = bgr(codes[int(rng.integers(7))], rng.uniform(0.8, 1.1))
            _tile(canvas, (x, y), pitch, drop, paint, (top, bottom, left, right))


def _tile(canvas: Canvas, place: tuple[int, int], pitch: int, drop: int, paint: tuple, clip: tuple[int, ...]) -> None:
    """Draw one tile with its lit left flank and the shadow of its lower rim, inside the clip."""
    x, y = place
    top, bottom, left, right = clip
    view = canvas[max(0, top) : bottom, max(0, left) : right]
    x, y = x - max(0, left), y - max(0, top)
    centre, axes = (x + pitch // 2, y + drop), (pitch // 2, max(1, int(drop * 0.55)))
    shadow = tuple(part * 0.42 for part in paint)
    cv2.ellipse(view, (centre[0] + pitch // 12, centre[1] + drop // 6), axes, 0, 0, 180, shadow, -1, cv2.LINE_AA)
    cv2.rectangle(view, (x, y), (x + pitch - 1, y + drop), paint, -1)
    cv2.ellipse(view, centre, axes, 0, 0, 180, paint, -1, cv2.LINE_AA)
    lit, dim = tuple(min(255, part * 1.25) for part in paint), tuple(part * 0.66 for part in paint)
    cv2.rectangle(view, (x + pitch // 6, y), (x + pitch // 3, y + drop), lit, -1)
    cv2.rectangle(view, (x + pitch * 4 // 5, y), (x + pitch - 1, y + drop), dim, -1)
