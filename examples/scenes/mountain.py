"""A mountain range at dawn: first light on the snow, fog in the valleys, pines in front."""

from __future__ import annotations

import cv2
import numpy as np

from scenes.paint import Picture, Plane, add, bloom, colour, fractal, grid, mix, smooth, vertical
from scenes.terrain import Ground, View, cast, ridged, sunlight
from scenes.trees import pine, plant

_CELLS = 1536
_VIEW = View(eye=0.075, horizon=0.47, focal=1.0, near=0.05, steps=1200)
_SKY = [(0, "#2d4272"), (0.22, "#5d70a0"), (0.36, "#b59bb3"), (0.46, "#f0b795"), (0.56, "#fbd6a4"), (1, "#fbd6a4")]


def draw(rng: np.random.Generator, height: int, width: int) -> Picture:
    """Return the picture, float32 (3, height, width)."""
    picture = _sky(rng, (height, width))
    heights = _range(rng)
    ground, skyline = cast(heights, _VIEW, (height, width))
    _cover(rng, picture, ground, heights)
    _forest(rng, picture, heights, skyline)
    _foreground(rng, picture)
    bloom(picture, width / 60, 0.5, 0.75)
    return picture


def _sky(rng: np.random.Generator, shape: tuple[int, int]) -> Picture:
    """Return a dawn sky with thin clouds lit from below, brightest where the sun will rise."""
    picture = vertical(shape, _SKY)
    rows, columns = grid(shape)
    rows = rows[: round(shape[0] * 0.55)]  # below lies the ground
    glow = np.exp(-(((columns - 0.22) / 0.34) ** 2) - ((rows - 0.44) / 0.17) ** 2)
    sky = picture[:, : len(rows)]
    half = (len(rows) // 2, shape[1] // 2)
    clouds = fractal(rng, half, shape[0] / 12, finest=2, gain=0.56, stretch=4.5)
    clouds = cv2.resize(clouds, (shape[1], len(rows)), interpolation=cv2.INTER_LINEAR)
    veil = smooth(clouds, 0.1, 1.9) * smooth(rows, 0.52, 0.30) * (0.45 + 0.55 * glow)
    mix(sky, colour("#ffc7a3"), veil * 0.85)
    add(sky, colour("#ff9a50"), glow * np.float32(0.30))
    return picture


def _range(rng: np.random.Generator) -> Plane:
    """Return the height map: a valley in front that rises to high crests behind."""
    rows, columns = grid((_CELLS, _CELLS))
    bend = fractal(rng, (_CELLS, _CELLS), _CELLS / 4, finest=8) * np.float32(_CELLS / 45)
    peaks = ridged(rng, _CELLS, _CELLS / 4.6, 9, 0.46)
    across = np.broadcast_to(np.arange(_CELLS, dtype=np.float32), peaks.shape)
    peaks = cv2.remap(peaks, across + bend, across.T + bend.T, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    valley = 1 - np.exp(-(((columns - 0.53) / 0.085) ** 2)) * smooth(rows, 0.80, 0.45)
    rise = 0.030 + 0.155 * smooth(rows, 0.25, 0.86) + 0.045 * smooth(rows, 0.08, 0.3)
    crown = 1 + 0.55 * np.exp(-(((columns - 0.60) / 0.10) ** 2) - ((rows - 0.80) / 0.13) ** 2)
    return peaks * rise * (0.25 + 0.75 * valley) * crown


def _cover(rng: np.random.Generator, picture: Picture, ground: Ground, heights: Plane) -> None:
    """Paint rock, snow and forest floor in the light of the low sun, and the fog before them."""
    facing, lit = sunlight(heights, _CELLS, 0.42, -0.25)
    slope = np.hypot(cv2.Sobel(heights, cv2.CV_32F, 1, 0), cv2.Sobel(heights, cv2.CV_32F, 0, 1)) * np.float32(
        _CELLS / 8
    )
    detail = fractal(rng, (_CELLS, _CELLS), 40, gain=0.75)
    bare = smooth(slope + 0.34 * detail, 1.35, 2.3) * np.float32(0.8)  # snow does not hold on cliffs
    snow = smooth(heights + detail * 0.009, 0.062, 0.098) * (1 - bare)
    light = ground.sample(facing * lit)
    fine = ground.tile(detail, 3.0)
    white = ground.sample(snow)
    white = np.clip(white + fine * 0.30 * white * (1 - white) * 4, 0, 1)
    shade = _material(white, fine, light)
    depth = np.minimum(ground.depth, 1)
    _haze(rng, shade, ground, depth)
    mix(picture[:, ground.top :], shade, ground.cover())


def _material(white: Plane, fine: Plane, light: Plane) -> Picture:
    """Return the ground's colour: `white` of it snow, the rest rock, under warm light and blue shadow."""
    light = np.clip(light * 2.0 * (1 + fine * 0.12), 0, 1.5)
    rough = 1 + fine * np.float32(0.16)
    rock, snow, sun, sky = colour("#4b4650"), colour("#eef0f6"), colour("#ffa878"), colour("#6678b4")
    shade = np.empty((3, *white.shape), np.float32)
    shade[:] = rock[:, None, None]
    mix(shade, snow, white)
    for index in range(3):
        shade[index] *= (sky[index] * np.float32(0.66) + sun[index] * light) * rough
    return shade


def _haze(rng: np.random.Generator, shade: Picture, ground: Ground, depth: Plane) -> None:
    """Hide the ground's colours behind fog that lies in the valleys, warm where the sun will rise."""
    height, width = depth.shape
    drift = fractal(rng, (height // 3, width // 3), width / 24, finest=3, stretch=3.0)
    drift = cv2.resize(drift, (width, height), interpolation=cv2.INTER_LINEAR)
    low = np.exp(np.maximum(ground.height - np.float32(0.014), 0) * np.float32(-34)) * (1 + drift * np.float32(0.48))
    thick = 1 - np.exp(-depth * (np.float32(0.55) + np.float32(5.2) * np.maximum(low, 0)))
    warm = np.exp(-((np.linspace(0, 1, width, dtype=np.float32) - 0.2) ** 2) / 0.12)
    cold, dawn = colour("#7f8fbf"), colour("#ffd9a6")
    mix(shade, cold, thick)
    add(shade, dawn - cold, warm * (np.float32(0.35) + np.float32(0.65) * depth) * thick)


def _forest(rng: np.random.Generator, picture: Picture, heights: Plane, skyline: Plane) -> None:
    """Plant pines on the slopes near by, the farthest first, each hidden by the ground before it."""
    trees = [pine(rng, 220) for _ in range(5)]
    small = [
        tuple(cv2.resize(plane, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA) for plane in tree) for tree in trees
    ]
    height, width = picture.shape[1:]
    distances = _VIEW.distances()
    groves = fractal(rng, (_CELLS, _CELLS), 160, finest=10)
    for step in np.sort(rng.integers(0, int(_VIEW.steps * 0.80), 5200))[::-1]:
        column = int(rng.integers(width))
        depth = float(distances[step])
        across = int(((column / width - 0.5) / _VIEW.focal * depth + 0.5) * _CELLS)
        level, grove = float(heights[int(depth * _CELLS), across]), float(groves[int(depth * _CELLS), across])
        row = _VIEW.horizon * height - (level - _VIEW.eye) / depth * _VIEW.focal * width
        size = 0.0085 * rng.uniform(0.55, 1.25) / depth * _VIEW.focal * width
        if (
            level > 0.085 + 0.01 * grove
            or grove < -0.5
            or row > skyline[step, column] + size * 0.3
            or row - size > height
        ):
            continue
        plant(
            picture,
            (trees if size > 80 else small)[int(rng.integers(5))],
            (column, round(row)),
            round(size),
            _paints(level, depth, column / width),
        )


def _paints(level: float, depth: float, across: float) -> tuple[Plane, Plane]:
    """Return a tree's colours in shadow and light behind the air before it."""
    fog = 1 - np.exp(-depth * (0.4 + 3.6 * np.exp(-max(level - 0.012, 0) * 34)))
    warm = np.exp(-((across - 0.2) ** 2) / 0.12)
    air = colour("#8693bd") * (1 - warm * 0.5) + colour("#ffd0a0") * warm * 0.5
    dark, lit = colour("#0f1a20"), colour("#5c5638") * (0.8 + 0.5 * warm)
    return tuple((paint + (air - paint) * fog).astype(np.float32) for paint in (dark, lit))


def _foreground(rng: np.random.Generator, picture: Picture) -> None:
    """Frame the view with tall dark pines in the corners."""
    height, width = picture.shape[1:]
    tree = [pine(rng, max(24, round(height * 0.5))) for _ in range(3)]
    for part, size in [
        (0.02, 0.72),
        (0.115, 0.50),
        (0.19, 0.33),
        (0.985, 0.60),
        (0.91, 0.40),
        (0.845, 0.24),
        (0.27, 0.2),
    ]:
        foot = height * rng.uniform(1.01, 1.05)
        paints = (colour("#070d14"), colour("#2a2e2c"))
        plant(picture, tree[int(rng.integers(3))], (round(part * width), round(foot)), round(size * height), paints)
