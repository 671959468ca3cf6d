"""Northern lights over a still lake between snowy hills, with one lit cabin."""

from __future__ import annotations

import cv2
import numpy as np

from scenes.night import stars
from scenes.paint import (
    Picture,
    Plane,
    add,
    bloom,
    blur,
    colour,
    curve,
    fractal,
    grid,
    mirror,
    mix,
    smooth,
    stamp,
    vertical,
)
from scenes.terrain import View, cast, ridged, sunlight
from scenes.trees import pine, plant

_CELLS = 1024
_VIEW = View(eye=0.020, horizon=0.60, focal=0.75, near=0.06, steps=700)
_SKY = [(0, "#050b1c"), (0.3, "#0a1a33"), (0.52, "#123349"), (0.6, "#1f4f58"), (1, "#0a1a2c")]
_CURTAINS = [(0.10, 0.98, 0.45, 0.50, 1.0), (-0.05, 0.62, 0.26, 0.36, 0.62), (0.45, 1.1, 0.20, 0.30, 0.5)]


def draw(rng: np.random.Generator, height: int, width: int) -> Picture:
    """Return the picture, float32 (3, height, width)."""
    picture = vertical((height, width), _SKY)
    light = _lights(rng, (height, width))
    rows, _ = grid((height, width))
    stars(
        rng, picture, round(width * 0.8), smooth(rows, 0.62, 0.25) * (1 - 0.6 * np.minimum(light[1], 1)), (-0.55, -0.55)
    )
    picture += light * (1 - np.float32(0.4) * picture)
    _hills(rng, picture)
    _shore(rng, picture)
    _lake(rng, picture)
    bloom(picture, width / 70, 0.5, 0.55)
    return picture


def _lights(rng: np.random.Generator, shape: tuple[int, int]) -> Picture:
    """Return the light of three folded curtains, green at the foot and violet at the crown."""
    half = (shape[0] // 2, shape[1] // 2)
    total = np.zeros((3, *half), np.float32)
    for curtain in _CURTAINS:
        _curtain(rng, total, curtain)
    return np.stack([cv2.resize(1.05 * np.tanh(blur(plane, shape[1] / 1500)), shape[::-1]) for plane in total])


def _curtain(rng: np.random.Generator, total: Picture, curtain: tuple[float, ...]) -> None:
    """Hang one curtain: many thin rays side by side along a folded line, nearer ones higher and longer."""
    height, width = total.shape[1:]
    start, end, foot, reach, strength = curtain
    count = width * 3
    fold = curve(rng, count, count / 3, gain=0.36)
    rays = np.exp(0.42 * curve(rng, count, count / 12, gain=0.74))
    lift = curve(rng, count, count / 2.5, gain=0.22)
    places = np.linspace(start, end, count) + 0.030 * fold + 0.012 * np.sin(np.linspace(0, 37, count))
    feet = foot + 0.055 * lift - 0.16 * np.linspace(0, 1, count) * (0.5 if start > 0.3 else 1)
    fall = np.linspace(0, 1, 256, dtype=np.float32)
    green = np.exp(-((fall / 0.30) ** 1.3)) * smooth(fall, 0.0, 0.045)
    violet = np.exp(-(((fall - 0.42) / 0.30) ** 2)) * smooth(fall, 0.05, 0.4)
    ray = np.stack([0.10 * green + 0.17 * violet, 0.95 * green + 0.06 * violet, 0.52 * green + 0.26 * violet])[:, ::-1]
    ray = np.ascontiguousarray(ray.astype(np.float32))
    rays = np.minimum(rays, 2.6) * np.sin(np.linspace(0, np.pi, count)) ** 0.6
    for index in range(count):
        column, long = int(places[index] * width), int(height * reach * (0.55 + 0.3 * min(2.2, rays[index])))
        if 0 <= column < width:
            _ray(total, ray * np.float32(strength * rays[index] * 0.26), column, int(feet[index] * height * 1.25), long)


def _ray(total: Picture, ray: Plane, column: int, foot: int, long: int) -> None:
    """Add one ray of light, `long` pixels high, that stands on row `foot`."""
    top = foot - long
    first, last = max(0, top), min(total.shape[1], foot)
    if last > first:
        index = ((np.arange(first, last) - top) * 255 // max(1, long)).clip(0, 255)
        total[:, first:last, column] += ray[:, index]


def _hills(rng: np.random.Generator, picture: Picture) -> None:
    """Raise snowy hills behind the lake, lit faintly green from above."""
    rows, _ = grid((_CELLS, _CELLS))
    heights = ridged(rng, _CELLS, _CELLS / 6, 8, 0.48) * 0.17 * smooth(rows, 0.42, 0.85)
    ground, _ = cast(heights, _VIEW, picture.shape[1:])
    facing, lit = sunlight(heights, _CELLS, 0.8, 0.2)
    fine = ground.tile(fractal(rng, (512, 512), 30, gain=0.75), 4.0)
    light = ground.sample(facing * (0.35 + 0.65 * lit)) * (1 + 0.16 * fine)
    snow = ground.sample(smooth(heights, 0.015, 0.05))
    dark, bright, air = colour("#0a1420"), colour("#86c4b8"), colour("#1c4450")
    shade = np.stack([dark[k] + (bright[k] * 1.0 - dark[k]) * light * (0.12 + 0.88 * snow) for k in range(3)])
    mix(shade, air, smooth(ground.height, 0.06, -0.01) * 0.75)
    mix(picture[:, ground.top :], shade, ground.cover())


def _shore(rng: np.random.Generator, picture: Picture) -> None:
    """Line the far shore with dark pines and set a cabin among them."""
    height, width = picture.shape[1:]
    line = round(height * 0.655)
    trees = [pine(rng, 200) for _ in range(5)]
    swell = curve(rng, width, width / 6)
    for column in np.sort(rng.integers(0, width, 700)):
        edge = abs(column / width - 0.60)
        size = height * (0.022 + 0.016 * max(0.0, swell[column]) + 0.10 * edge**1.5) * rng.uniform(0.6, 1.3)
        paints = (colour("#03080c"), colour("#1c3a38"))
        plant(picture, trees[int(rng.integers(5))], (int(column), line + int(rng.integers(0, 8))), round(size), paints)
    mix(picture[:, line:], colour("#050d14"), 1.0)
    _cabin(picture, (round(width * 0.60), line), height * 0.028)


def _cabin(picture: Picture, foot: tuple[int, int], size: float) -> None:
    """Draw a small log house with lit windows, a chimney, and snow on its roof."""
    x, y = foot
    walls = np.array([[-1.1, 0], [-1.1, -0.8], [1.1, -0.8], [1.1, 0]])
    roof = np.array([[-1.4, -0.72], [-0.75, -1.5], [0.75, -1.5], [1.4, -0.72]])
    panes = [
        np.array([[c - 0.22, -0.22], [c - 0.22, -0.58], [c + 0.22, -0.58], [c + 0.22, -0.22]]) for c in (-0.6, 0.1, 0.7)
    ]
    logs = [
        np.array([[-1.1, row], [-1.1, row - 0.035], [1.1, row - 0.035], [1.1, row]]) for row in np.arange(-0.7, 0, 0.11)
    ]
    chimney = np.array([[0.35, -1.3], [0.35, -1.8], [0.58, -1.8], [0.58, -1.3]])
    parts = [
        (walls, "#2a1b14"),
        *((log, "#120b08") for log in logs),
        (chimney, "#2c2624"),
        (roof, "#9fc4c8"),
        *((pane, "#ffc870") for pane in panes),
    ]
    bars = [
        np.array([[c - 0.015, -0.22], [c - 0.015, -0.58], [c + 0.015, -0.58], [c + 0.015, -0.22]])
        for c in (-0.6, 0.1, 0.7)
    ]
    for shape, code in [*parts, *((bar, "#2a1b14") for bar in bars)]:
        cover = np.zeros((int(size * 2.2) + 1, int(size * 4) + 1), np.uint8)
        points = ((shape + 2) * size * 16).astype(np.int32)
        cv2.fillPoly(cover, [points], 255, cv2.LINE_AA, 4)
        paint = colour(code) * np.float32(1.3 if code == "#ffc870" else 1)
        stamp(picture, cover.astype(np.float32) / 255, paint, x - int(size * 2), y - int(size * 2))


def _lake(rng: np.random.Generator, picture: Picture) -> None:
    """Mirror everything in the lake, in ripples that grow towards the camera."""
    height, width = picture.shape[1:]
    line = round(height * 0.66)
    rows = height - line
    near = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    ripple = fractal(rng, (rows, width), height / 120, finest=2, gain=0.6, stretch=9) * (0.002 + 0.014 * near) * height
    water = mirror(picture, line, ripple, ripple * 0.25)
    tint = colour("#7fa0b4")
    dim = 0.78 - 0.30 * near
    for plane, part, mirrored in zip(picture, tint, water, strict=True):
        plane[line:] = mirrored * dim * (0.55 + 0.45 * part) + part * 0.012
    add(picture[:, line : line + max(2, height // 500)], colour("#8fd0c0"), 0.25)
