"""Desert dunes after sunset: sharp crests, wind ripples, and the first stars over them."""

from __future__ import annotations

import cv2
import numpy as np

from scenes.night import moon, stars
from scenes.paint import Picture, Plane, add, bloom, colour, fractal, grid, mix, smooth, vertical
from scenes.terrain import Ground, View, cast, sunlight

_CELLS = 1536
_VIEW = View(eye=0.052, horizon=0.47, focal=0.62, near=0.032, steps=1100, span=1.7)
_SKY = [(0, "#0e1836"), (0.2, "#25305e"), (0.33, "#5a5287"), (0.41, "#b0748a"), (0.465, "#f2a070"), (1, "#ffc98a")]


def draw(rng: np.random.Generator, height: int, width: int) -> Picture:
    """Return the picture, float32 (3, height, width)."""
    picture = _sky(rng, (height, width))
    heights = _dunes(rng)
    ground, _ = cast(heights, _VIEW, (height, width))
    mix(picture[:, ground.top :], _sand(rng, ground, heights), ground.cover())
    bloom(picture, width / 90, 0.35, 0.7)
    return picture


def _sky(rng: np.random.Generator, shape: tuple[int, int]) -> Picture:
    """Return dusk with an afterglow on the left, a young moon, stars, and a faint Milky Way."""
    picture = vertical(shape, _SKY)
    rows, columns = grid(shape)
    glow = np.exp(-(((columns - 0.17) / 0.22) ** 2) - ((rows - 0.47) / 0.19) ** 2)
    dark = smooth(rows, 0.40, 0.05) * (1 - glow)
    stars(rng, picture, round(shape[1] * 0.9), dark, band=(0.25, -1.1))
    add(picture, colour("#ff7a35"), glow * np.float32(0.42))
    moon(picture, (round(shape[1] * 0.30), round(shape[0] * 0.17)), shape[0] * 0.022)
    return picture


def _dunes(rng: np.random.Generator) -> Plane:
    """Return the height map: long waves of sand, gentle to windward and steep to lee, with a knife edge between."""
    rows, columns = grid((_CELLS, _CELLS))
    total = np.zeros((_CELLS, _CELLS), np.float32)
    for waves, high, bend in [(4.3, 0.052, 0.55), (11.0, 0.016, 0.50), (2.0, 0.020, 0.4)]:
        warp = fractal(rng, (_CELLS, _CELLS), _CELLS / 2.5, finest=40, gain=0.36)
        phase = (columns * 1.7 + rows * 0.55) * np.float32(waves) + warp * np.float32(bend)
        part = phase - np.floor(phase)
        wave = np.where(part < 0.70, _rise(part / 0.70), 1 - (part - 0.70) / 0.30)
        size = 0.45 + 0.55 * smooth(fractal(rng, (_CELLS, _CELLS), _CELLS / 3, finest=60), -1.2, 1.2)
        total += np.maximum(wave, 0).astype(np.float32) * size * np.float32(high)
    total = cv2.GaussianBlur(total, (0, 0), 1.2)
    return total * smooth(rows, -0.02, 0.22) * (0.55 + 0.75 * smooth(rows, 0.1, 0.8))


def _rise(part: Plane) -> Plane:
    """Return the windward side of a dune, from 0 to 1 with a level foot."""
    return part * part * (1.8 - 0.8 * part)


def _sand(rng: np.random.Generator, ground: Ground, heights: Plane) -> Picture:
    """Return the sand under low warm light, its shadows lit by the blue sky."""
    facing, lit = sunlight(heights, _CELLS / 1.7, 0.20, 0.35)
    direct = ground.sample(facing)
    clear = ground.sample(cv2.GaussianBlur(lit, (0, 0), 1.0))
    grains = ground.tile(rng.standard_normal((512, 512), dtype=np.float32), 6.0)
    light = direct * clear * (1 + _ripples(rng, ground)) * np.float32(1.7)
    light = light * (1 + grains * 0.05)
    ambient = np.float32(0.50) + grains * 0.012 + _ripples_soft(light)
    albedo, sun, sky = colour("#d99a62"), colour("#ffb070"), colour("#5d5f9e")
    depth = np.minimum(ground.depth, 1)
    haze, air = 1 - np.exp(-depth * 0.75), colour("#d98d7c")
    shade = np.stack([albedo[k] * (sky[k] * ambient * 0.95 + sun[k] * light * 1.15) for k in range(3)])
    mix(shade, air, haze * 0.55)
    return shade


def _ripples_soft(light: Plane) -> Plane:
    """Return the light that bright sand throws into the shade around it."""
    small = cv2.resize(light, None, fx=0.05, fy=0.05, interpolation=cv2.INTER_AREA)
    return cv2.resize(cv2.GaussianBlur(small, (0, 0), 4), light.shape[::-1]) * np.float32(0.16)


def _ripples(rng: np.random.Generator, ground: Ground) -> Plane:
    """Return how wind ripples brighten or darken the sand, gone where one would be under two pixels."""
    bend = fractal(rng, (_CELLS, _CELLS), 120, finest=3, gain=0.42)
    strength = smooth(fractal(rng, (_CELLS, _CELLS), 300, finest=20), -1.6, 0.4)
    phase = (ground.across * 0.28 + ground.along * 1.0) * np.float32(1.55) + ground.sample(bend) * np.float32(5.5)
    wave = np.sin(phase) + np.float32(0.45) * np.sin(2 * phase + 0.9)
    width = ground.depth.shape[1]
    fade = smooth(ground.depth * np.float32(_CELLS / width * 5.2), 2.2, 0.25)
    return wave * fade * ground.sample(strength) * np.float32(0.42)
