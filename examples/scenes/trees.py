"""Conifers: drawn once, large, then stamped in any size."""

from __future__ import annotations

import cv2
import numpy as np

from scenes.paint import Picture, Plane, stamp


def pine(rng: np.random.Generator, height: int) -> tuple[Plane, Plane]:
    """Return the coverage and the light of one pine lit from the left, both float32 (height, 0.46 * height)."""
    width = round(height * 0.46)
    cover, light = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
    centre = width / 2
    foot = max(0.8, height / 75)
    trunk = np.array([(centre, 0), (centre + foot, height), (centre - foot, height)]) * 16
    cv2.fillConvexPoly(cover, trunk.astype(np.int32), 255, cv2.LINE_AA, 4)
    count = max(22, min(70, height // 13))
    for level in np.linspace(0.02, 0.94, count):
        reach = width * 0.48 * (0.015 + 0.985 * level**0.85) * rng.uniform(0.62, 1.08)
        for side in (-1, 1):
            _branch(
                rng,
                cover,
                light,
                (centre, (level + rng.uniform(0, 0.012)) * height),
                side * reach * rng.uniform(0.8, 1.1),
            )
    soft = cv2.GaussianBlur(light, (0, 0), max(0.4, height / 300))
    return cover.astype(np.float32) / 255, soft.astype(np.float32) / 255


def _line(
    canvas: np.ndarray, start: tuple[float, float], end: tuple[float, float], thickness: int, value: int = 255
) -> None:
    """Draw an anti-aliased line between points given in fractions of pixels."""
    ends = [(round(x * 16), round(y * 16)) for x, y in (start, end)]
    cv2.line(canvas, *ends, value, thickness, cv2.LINE_AA, 4)


def _branch(rng: np.random.Generator, cover: Plane, light: Plane, root: tuple[float, float], reach: float) -> None:
    """Draw a drooping branch with needles above and below it; those on the left catch the light."""
    height, side = cover.shape[0], 1 if reach > 0 else -1
    droop, thick = abs(reach) * rng.uniform(0.25, 0.5), max(1, round(height / 800))
    count = max(4, int(abs(reach) / max(2.0, height / 260)))
    brightness = 40 + (100 if reach < 0 else 15) * rng.uniform(0.6, 1.3)
    start = root
    for part, draw in zip(np.linspace(0.02, 1, count).tolist(), rng.uniform(0.6, 1.4, count).tolist(), strict=True):
        x, y = root[0] + reach * part, root[1] + droop * part**1.5
        length = min(0.026 * height, 0.003 * height + abs(reach) * 0.2) * (1.15 - 0.7 * part) * draw
        _line(cover, start, (x, y), thick)
        _line(cover, (x, y), (x + side * length * 0.45, y + length), thick)
        _line(cover, (x, y), (x + side * length * 0.75, y - length * 0.28), thick)
        glint = (x + side * length * 0.6, y - length * 0.2)
        _line(light, (x, y), glint, thick, int(min(255, brightness * (0.5 + part))))
        start = (x, y)


def plant(
    picture: Picture, tree: tuple[Plane, Plane], base: tuple[int, int], height: int, paints: tuple[Plane, Plane]
) -> None:
    """Stamp a tree of `height` pixels with its foot at `base` (column, row).

    Args:
        picture: Changed in place.
        tree: Coverage and light, as `pine` gives them.
        base: Column and row of the foot of the trunk.
        height: Height in pixels.
        paints: The colours in shadow and in light, each of shape (3,).
    """
    size = (max(2, round(height * 0.46)), max(3, height))
    cover, light = (cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in tree)
    paint = paints[0][:, None, None] + (paints[1] - paints[0])[:, None, None] * light
    stamp(picture, cover, paint, base[0] - size[0] // 2, base[1] - size[1])
