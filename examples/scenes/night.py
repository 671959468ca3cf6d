"""What shines at night: stars, the Milky Way, the moon."""

from __future__ import annotations

import cv2
import numpy as np

from scenes.paint import Picture, Plane, add, colour, fractal, smooth, stamp


def stars(
    rng: np.random.Generator, picture: Picture, count: int, strength: Plane, band: tuple[float, float] | None = None
) -> None:
    """Add `count` stars, most of them faint, in place.

    Args:
        rng: Where they stand.
        picture: Changed in place.
        count: Number of stars.
        strength: How well stars show at each pixel, 0 to 1, shape (height, width).
        band: Slope and offset of a Milky Way that gathers stars, in units of the picture's height; None for none.
    """
    height, width = picture.shape[1:]
    if band is not None:
        _milky_way(rng, picture, strength, band)
    tints = [colour(code) for code in ("#cfe0ff", "#ffffff", "#fff0d8", "#ffd9b8", "#dfe8ff")]
    size = max(1.0, width / 2600)
    for row, column, rank in zip(rng.random(count), rng.random(count), rng.random(count), strict=True):
        y, x = int(row * height), int(column * width)
        light = float(strength[y, x])
        if light > 0.02:
            _star(picture, (x, y), 0.16 / (rank + 0.10) ** 0.9 * light, size, tints[int(rank * 977) % 5])


def _star(picture: Picture, centre: tuple[int, int], light: float, size: float, tint: Plane) -> None:
    """Add one star: a point where it is faint, a small disc with a glow where it is bright."""
    radius = size * (0.55 + 0.40 * min(light, 1.6))
    reach = int(np.ceil(radius * 3))
    axis = np.exp(-((np.arange(-reach, reach + 1, dtype=np.float32) / np.float32(radius)) ** 2))
    glow = np.minimum(axis[:, None] * axis[None, :] * np.float32(light), 1)
    stamp(picture, glow, np.maximum(tint, 0.8 * tint + 0.2), centre[0] - reach, centre[1] - reach)


def _milky_way(rng: np.random.Generator, picture: Picture, strength: Plane, band: tuple[float, float]) -> None:
    """Add a band of unresolved starlight with dark lanes of dust."""
    height, width = picture.shape[1:]
    shape = (height // 4, width // 4)
    cloud = fractal(rng, shape, height / 14, finest=2, gain=0.6)
    rows = np.arange(shape[0], dtype=np.float32)[:, None] / shape[0]
    columns = np.arange(shape[1], dtype=np.float32)[None, :] / shape[0]
    slope, offset = band
    away = rows - 0.5 - slope * (columns + offset * width / height * 0.5) + cloud * 0.03
    glow = np.exp(-((away / 0.17) ** 2)) * (0.7 + 0.35 * cloud) - np.exp(-((away / 0.035) ** 2)) * smooth(
        cloud, -0.6, 1
    )
    glow = cv2.resize(np.maximum(glow, 0), (width, height), interpolation=cv2.INTER_LINEAR) * strength
    add(picture, colour("#8d93c8"), glow * np.float32(0.22))


def moon(picture: Picture, centre: tuple[int, int], radius: float) -> None:
    """Draw a crescent with earthshine and a halo, lit from the lower left."""
    reach = int(radius * 7)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32) / np.float32(radius)
    away = np.sqrt(rows**2 + columns**2)
    stamp(
        picture,
        np.exp(-((away / 2.6) ** 2)) * np.float32(0.22),
        colour("#ffe9cf"),
        centre[0] - reach,
        centre[1] - reach,
    )
    disc = smooth(away, 1 + 1 / radius, 1 - 1 / radius)
    hidden = smooth(np.hypot(rows + 0.26, columns - 0.42), 1.02 + 2 / radius, 0.97 - 2 / radius)
    stamp(picture, disc * np.float32(0.25), colour("#7b84a8"), centre[0] - reach, centre[1] - reach)
    stamp(picture, disc * (1 - hidden), colour("#fff6e4"), centre[0] - reach, centre[1] - reach)
