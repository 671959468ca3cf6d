"""A dahlia close up: petals set by the golden angle, dew on them, light discs out of focus behind."""

from __future__ import annotations

import cv2
import numpy as np

from scenes.paint import Picture, Plane, add, bloom, colour, fractal, grid, mix, ramp, smooth, stamp, vertical

_PETALS = 300
_GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))
_TONES = [(0, "#4a0822"), (0.25, "#a3123f"), (0.55, "#e23a5e"), (0.8, "#ff7f86"), (1, "#ffd2c4")]


def draw(rng: np.random.Generator, height: int, width: int) -> Picture:
    """Return the picture, float32 (3, height, width)."""
    picture = _backdrop(rng, (height, width))
    centre = (width * 0.56, height * 0.50)
    petals = [_petal(rng, max(40, round(height * 0.24))) for _ in range(5)]
    for index in range(_PETALS, 0, -1):
        _place(rng, picture, petals[int(rng.integers(5))], centre, index)
    _dew(rng, picture, centre)
    bloom(picture, width / 60, 0.35, 0.75)
    return picture


def _backdrop(rng: np.random.Generator, shape: tuple[int, int]) -> Picture:
    """Return a garden far out of focus: dark green, with discs of light."""
    picture = vertical(shape, [(0, "#3f5a3a"), (0.5, "#1d3a2c"), (1, "#0b1c18")])
    rows, columns = grid(shape)
    tone = fractal(rng, shape, shape[0] / 3, finest=shape[0] / 8)
    mix(picture, colour("#0c2420"), smooth(tone, -0.5, 1.5) * 0.8)
    mix(picture, colour("#8a9a4a"), np.exp(-(((columns - 0.08) / 0.25) ** 2) - ((rows - 0.1) / 0.35) ** 2) * 0.65)
    for _ in range(70):
        radius = shape[0] * rng.uniform(0.018, 0.062)
        place = (rng.random() ** 1.3 * shape[1], rng.random() ** 1.4 * shape[0])
        code = str(rng.choice(["#e8e08a", "#a8c868", "#f6d7a0", "#cfe3b0", "#e69a9a"]))
        _disc(picture, place, radius, colour(code), rng.uniform(0.05, 0.26))
    return picture


def _disc(picture: Picture, place: tuple[float, float], radius: float, paint: Plane, strength: float) -> None:
    """Add a point of light out of focus: a disc a little brighter at its rim."""
    reach = int(radius * 1.2) + 2
    axis = np.arange(-reach, reach + 1, dtype=np.float32) / np.float32(radius)
    away = np.sqrt(axis[:, None] ** 2 + axis[None, :] ** 2)
    cover = smooth(away, 1.04, 0.95) * (0.72 + 0.28 * away**4) * np.float32(strength)
    stamp(picture, np.clip(cover, 0, 1), paint, int(place[0]) - reach, int(place[1]) - reach)


def _petal(rng: np.random.Generator, length: int) -> tuple[Plane, Plane]:
    """Return one petal's coverage and its tone (0 dark to 1 light), (0.46 * length, length), its tip at the right."""
    width = round(length * 0.46)
    along = np.linspace(0, 1, length, dtype=np.float32)[None, :]
    across = np.linspace(-1, 1, width, dtype=np.float32)[:, None] + 0.05 * np.sin(along * 3 + rng.uniform(0, 6))
    half = np.power(np.maximum(np.sin(np.pi * np.power(along, 1.35)), 1e-4), 0.72) * 0.93 + 0.02
    part = across / half
    cover = np.clip((1 - np.abs(part)) * half * width / 2, 0, 1)
    veins = np.sin(part * 23 + 0.8 * np.sin(along * 5)) * 0.5 + np.sin(part * 61 + along * 2) * 0.3
    fibre = fractal(rng, (width, length), 8, finest=1, gain=0.8, stretch=14)
    fold = 0.30 * np.abs(part) ** 1.6 - 0.26 * np.exp(-((part / 0.16) ** 2)) + 0.10 * part
    tone = 0.10 + 0.62 * along**1.15 + fold * (0.35 + 0.65 * along) + 0.035 * veins * (1 - along * 0.5) + 0.022 * fibre
    rim = np.exp(-((1 - np.abs(part)) * half * width / (length * 0.014))) * 0.20
    return cover.astype(np.float32), np.clip(tone + rim * along, 0, 1).astype(np.float32)


def _place(rng: np.random.Generator, picture: Picture, petal: tuple, centre: tuple[float, float], index: int) -> None:
    """Stamp the petal with this index, 1 being the innermost, and the shadow it throws on those behind."""
    height = picture.shape[1]
    away = np.sqrt(index / _PETALS)
    turn = index * _GOLDEN_ANGLE + rng.uniform(-0.06, 0.06)
    length = height * (0.045 + 0.185 * away**1.2) * rng.uniform(0.93, 1.07)
    root = height * (0.31 * away**1.15 - 0.012)
    scale = length / petal[0].shape[1]
    cos, sin = abs(np.cos(turn)), abs(np.sin(turn))
    reach = np.array([cos + 0.46 * sin, sin + 0.46 * cos]) * length * 0.6 // 1 + 8
    middle = np.array(centre) + np.array([np.cos(turn), np.sin(turn)]) * (root + length * 0.35)
    base = middle.astype(int)
    matrix = _turned(petal[0].shape, turn, scale * 1.2, middle - base + reach)
    size = (int(2 * reach[0]) + 1, int(2 * reach[1]) + 1)
    cover, tone = (cv2.warpAffine(plane, matrix, size, flags=cv2.INTER_AREA) for plane in petal)
    light = 0.95 - 0.20 * np.sin(turn + 0.9) + 0.12 * away
    shadow = cv2.blur(cover, (max(1, int(length / 13)),) * 2) * np.float32(0.50)
    left, top = (base - reach).astype(int).tolist()
    stamp(picture, shadow, colour("#1d0212"), left + int(height * 0.004), top + int(height * 0.006))
    paint = ramp(tone * np.float32(0.55 + 0.45 * away) * np.float32(light) + np.float32(0.03), _TONES)
    stamp(picture, cover, paint, left, top)


def _turned(shape: tuple[int, int], turn: float, scale: float, middle: Plane) -> Plane:
    """Return the affine matrix that turns a petal about its own middle and sets it at `middle`."""
    cos, sin = np.cos(turn) * scale, np.sin(turn) * scale
    y, x = shape[0] / 2, shape[1] / 2
    return np.array([[cos, -sin, middle[0] - cos * x + sin * y], [sin, cos, middle[1] - sin * x - cos * y]])


def _dew(rng: np.random.Generator, picture: Picture, centre: tuple[float, float]) -> None:
    """Set drops of dew on the petals: each a small lens with its own highlight and shadow."""
    height = picture.shape[1]
    for _ in range(95):
        away, turn = height * 0.47 * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
        radius = height * (0.0028 + 0.0145 * rng.random() ** 3.2)
        _drop(picture, (centre[0] + away * np.cos(turn), centre[1] + away * np.sin(turn)), radius)


def _drop(picture: Picture, place: tuple[float, float], radius: float) -> None:
    """Draw one drop, lit from the upper left: bright where the light leaves it, dark where it enters."""
    reach = int(radius * 1.5) + 2
    left, top = int(place[0]) - reach, int(place[1]) - reach
    if left < 0 or top < 0 or left + 2 * reach >= picture.shape[2] or top + 2 * reach >= picture.shape[1]:
        return
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32) / np.float32(radius)
    away = np.sqrt(rows**2 + columns**2)
    window = picture[:, top : top + 2 * reach + 1, left : left + 2 * reach + 1]
    dark = np.exp(-((np.hypot(rows - 0.32, columns - 0.32) / 0.95) ** 4)) * np.float32(0.42)
    mix(window, colour("#4a0820"), dark)
    lens = np.float32(reach) - np.float32(0.75 * radius) * np.stack([columns, rows]) * (1.25 - away**2 * 0.4)
    inside = np.stack([cv2.remap(plane.copy(), lens[0], lens[1], cv2.INTER_LINEAR) for plane in window])
    toward = (rows + columns) * np.float32(0.7071)
    inside *= 1.02 + 0.62 * toward * (0.3 + away)
    inside += np.exp(-((np.hypot(rows - 0.42, columns - 0.42) / 0.42) ** 2)) * 0.24
    mix(window, inside, smooth(away, 1 + 0.6 / radius, 1 - 0.6 / radius))
    add(window, colour("#ffffff"), np.exp(-((np.hypot(rows + 0.42, (columns + 0.40) * 1.3) / 0.17) ** 4)) * 0.95)
