"""An autumn birch wood against the light: white trunks one behind the other, gold leaves, mist between."""

from __future__ import annotations

import math

import cv2
import numpy as np

from scenes.paint import (
    Picture,
    Plane,
    add,
    bgr,
    bloom,
    colour,
    curve,
    fractal,
    grid,
    mix,
    smooth,
    stamp,
    to_picture,
    vertical,
)

_BACK = [(0, "#e9c27a"), (0.30, "#f6dfa6"), (0.52, "#fbeec9"), (0.66, "#e3c78c"), (0.78, "#a8803f"), (1, "#5a3a1c")]
_LEAVES = ["#f2b52a", "#e89a1c", "#f7cf4e", "#d9791a", "#c7591a", "#f9dc7a", "#b98a22"]


def draw(rng: np.random.Generator, height: int, width: int) -> Picture:
    """Return the picture, float32 (3, height, width)."""
    picture = _light(rng, (height, width))
    floor = round(height * 0.70)
    _floor(rng, picture, floor)
    for layer, (count, thick) in enumerate([(26, 0.010), (15, 0.020), (8, 0.038), (4, 0.082)]):
        near = layer / 3
        _trunks(rng, picture, count, thick, near)
        _foliage(rng, picture, near)
        if layer < 3:
            mix(picture, colour("#fbe3ac"), 0.17 * _mist(rng, picture.shape[1:]))
    _rays(rng, picture)
    bloom(picture, width / 30, 0.4, 0.72)
    return picture


def _light(rng: np.random.Generator, shape: tuple[int, int]) -> Picture:
    """Return the bright haze behind the wood, mottled as leaves out of focus are."""
    picture = vertical(shape, _BACK)
    rows, columns = grid(shape)
    mottle = fractal(rng, shape, shape[1] / 9, finest=shape[1] / 150, gain=0.7)
    mix(picture, colour("#c98a2a"), smooth(mottle, -0.3, 1.6) * 0.55)
    mix(picture, colour("#7d7a2e"), smooth(-mottle, 0.2, 2.0) * 0.45)
    glow = np.exp(-(((columns - 0.60) / 0.26) ** 2) - ((rows - 0.40) / 0.22) ** 2)
    mix(picture, colour("#fff6d8"), glow * 0.9)
    return picture


def _mist(rng: np.random.Generator, shape: tuple[int, int]) -> Plane:
    """Return how thick the mist stands, most above the floor and towards the light."""
    rows, columns = grid(shape)
    return np.exp(-(((rows - 0.60) / 0.30) ** 2)) * (0.5 + np.exp(-(((columns - 0.6) / 0.3) ** 2)))


def _floor(rng: np.random.Generator, picture: Picture, top: int) -> None:
    """Cover the ground with fallen leaves, small and pale far off, large and strong near by."""
    height, width = picture.shape[1:]
    canvas = np.zeros((height - top, width, 3), np.uint8)
    cover = np.zeros(canvas.shape[:2], np.uint8)
    depth = np.sort(rng.random(16000) ** 0.62)
    centres = np.column_stack([rng.random(len(depth)) * width, depth**1.5 * (height - top)])
    gains = rng.uniform(0.35, 1.0, len(depth)) * (1.05 - 0.3 * depth)
    _leaves(rng, (canvas, cover), centres, width * (0.0016 + 0.0115 * depth**1.4), gains, 0.45)
    fade = smooth(np.arange(height - top, dtype=np.float32), 0, (height - top) * 0.16)[:, None]
    soft = cv2.GaussianBlur(cover, (0, 0), 0.7).astype(np.float32) / 255
    mix(picture[:, top:], colour("#4a2c12"), fade * 0.75)
    mix(picture[:, top:], to_picture(canvas), soft * fade)
    columns = np.linspace(0, 1, width, dtype=np.float32)
    lit = np.exp(-(((columns - 0.6) / 0.22) ** 2)) * smooth(
        fractal(rng, (height - top, width), height / 20, finest=8, stretch=2), -0.2, 1
    )
    add(picture[:, top:], colour("#ffb850"), lit * np.float32(0.22) * fade)


def _leaves(rng: np.random.Generator, targets: tuple, centres: Plane, sizes: Plane, gains: Plane, flat: float) -> None:
    """Draw pointed leaves turned at random into a canvas and its cover, the first undermost.

    Args:
        rng: Which way they lie, and their colours.
        targets: Canvas (h, w, 3) and cover (h, w), uint8.
        centres: Columns and rows, shape (n, 2).
        sizes: Half their lengths in pixels, shape (n,).
        gains: Their brightness, shape (n,).
        flat: How much they are foreshortened, 1 for not at all.
    """
    turns, kinds = rng.uniform(0, 2 * np.pi, len(sizes)), rng.integers(0, len(_LEAVES), len(sizes))
    along = np.column_stack([np.cos(turns), np.sin(turns) * flat]) * sizes[:, None]
    across = (
        np.column_stack([-np.sin(turns), np.cos(turns) * flat]) * (sizes * rng.uniform(0.35, 0.6, len(sizes)))[:, None]
    )
    corners = [along, along * 0.35 + across * 0.85, across - along * 0.25, -along * 0.8]
    corners += [-across - along * 0.25, along * 0.35 - across * 0.85]
    outlines = ((np.stack(corners, axis=1) + centres[:, None]) * 16).astype(np.int32)
    paints = np.array([bgr(code) for code in _LEAVES])[kinds] * gains[:, None]
    for outline, paint, size in zip(outlines, paints.clip(0, 255).tolist(), sizes, strict=True):
        cv2.fillConvexPoly(targets[0], outline, paint, cv2.LINE_AA, 4)
        cv2.fillConvexPoly(targets[1], outline, 255, cv2.LINE_AA, 4)
        if size > 9:
            vein = [part * 0.7 for part in paint]
            cv2.line(targets[0], outline[0].tolist(), outline[3].tolist(), vein, max(1, int(size / 16)), cv2.LINE_AA, 4)


def _trunks(rng: np.random.Generator, picture: Picture, count: int, thick: float, near: float) -> None:
    """Stand a layer of trunks side by side, spread evenly with some freedom."""
    height, width = picture.shape[1:]
    foot = 0.715 + 0.24 * near**1.4
    for place in (np.arange(count) + rng.uniform(0.1, 0.9, count)) / count:
        if near == 1 and abs(place - 0.60) < 0.12:
            continue  # the way to the light stays open
        wide = max(3, round(width * thick * rng.uniform(0.7, 1.25)))
        bottom = round(height * (foot + rng.uniform(-0.012, 0.02 + 0.05 * near)))
        _trunk(rng, picture, (round(place * width), bottom), wide, near)


def _trunk(rng: np.random.Generator, picture: Picture, foot: tuple[int, int], wide: int, near: float) -> None:
    """Stamp one trunk with its bark, round and lit from the side of the light."""
    x, bottom = foot
    width = picture.shape[2]
    room = round(wide * 1.6)
    rows = np.linspace(0, 1, bottom, dtype=np.float32)[:, None]
    lean = rng.uniform(-0.7, 0.7) * wide * (1 - rows)
    lean = lean + curve(rng, bottom, max(4, bottom / 3))[:, None] * wide * 0.14
    radius = wide / 2 * (0.72 + 0.28 * rows + 0.55 * np.exp(-(1 - rows) * 28))
    across = (np.arange(-room, room + 1, dtype=np.float32)[None, :] - lean) / radius
    cover = np.clip((1 - np.abs(across)) * radius + 0.5, 0, 1)
    bulge = np.sqrt(np.maximum(0, 1 - across**2))
    side = 1.0 if x < width * 0.6 else -1.0
    light = 0.34 + 0.40 * bulge + 0.62 * smooth(across * side, 0.15, 1.0) * (0.45 + 0.55 * near)
    bark = _bark(rng, cover.shape, wide, np.clip(across, -1, 1))
    shade = np.stack([light * part * bark[0] for part in colour("#f4e9dc")])
    mix(shade, colour("#1d1512"), bark[1])
    mix(shade, colour("#f3dba6"), 0.66 * (1 - near) ** 1.2)
    add(shade, colour("#8a4a14"), 0.22 * np.exp(-(1 - rows) * 7))
    stamp(picture, cover, shade, x - room, 0)
    if near > 0:
        _twigs(rng, picture, (x, lean[:, 0]), wide, near)


def _bark(rng: np.random.Generator, shape: tuple[int, int], wide: int, across: Plane) -> tuple[Plane, Plane]:
    """Return the bark's brightness and how black each spot of it is: bands, lenticels and scars."""
    rough = fractal(rng, shape, max(2.0, wide / 5), finest=1.2, gain=0.7, stretch=2.5)
    bands = fractal(rng, shape, max(2.0, wide / 9), finest=1.5, gain=0.6, stretch=9)
    patches = fractal(rng, shape, wide * 1.3, finest=max(1.5, wide / 60), gain=0.62, stretch=1.3)
    marks = smooth(bands, 1.15, 1.7) * 0.85
    marks = np.maximum(marks, smooth(patches + 0.25 * bands, 1.35, 1.75))
    rows = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None]
    foot = smooth(rows + 0.05 * patches, 0.93, 1.02)
    edge = smooth(np.abs(across), 0.7, 1.0) * 0.25
    return 1 + 0.07 * rough, np.clip(np.maximum(marks, foot * 0.85) + edge * (bands > 0.4), 0, 0.96)


def _twigs(rng: np.random.Generator, picture: Picture, stem: tuple[int, Plane], wide: int, near: float) -> None:
    """Draw thin dark branches that rise from the upper trunk and fork."""
    height, width = picture.shape[1:]
    cover = np.zeros((round(height * 0.60), min(width, wide * 14 + 8)), np.uint8)
    for _ in range(int(6 + 5 * near)):
        row = rng.uniform(0.04, 0.98) * cover.shape[0]
        start = (cover.shape[1] / 2 + float(stem[1][int(row)]), row)
        _fork(
            rng, cover, start, rng.choice([-1, 1]) * rng.uniform(0.5, 1.1), wide * rng.uniform(2.6, 5.2), wide * 0.062
        )
    paint = colour("#3a2a20") + (colour("#dcbc86") - colour("#3a2a20")) * (1 - near) * 0.8
    stamp(picture, cover.astype(np.float32) / 255, paint, stem[0] - cover.shape[1] // 2, 0)


def _fork(
    rng: np.random.Generator, cover: Plane, start: tuple[float, float], turn: float, length: float, thick: float
) -> None:
    """Draw one branch in bent pieces, with side branches, until it is a hair thin."""
    x, y = start
    bends, forks = rng.uniform(-0.28, 0.28, 5).tolist(), rng.uniform(-0.5, 0.5, 5).tolist()
    for piece, (bend, fork) in enumerate(zip(bends, forks, strict=True)):
        turn += bend
        end = (x + math.sin(turn) * length / 5, y - math.cos(turn) * length / 5)
        ends = [(int(x * 16), int(y * 16)), (int(end[0] * 16), int(end[1] * 16))]
        cv2.line(cover, *ends, 255, max(1, round(thick * (1 - piece / 7))), cv2.LINE_AA, 4)
        x, y = end
        if thick > 0.9 and piece:
            _fork(rng, cover, end, turn + fork + math.copysign(0.4, fork), length * 0.52, thick * 0.46)


def _foliage(rng: np.random.Generator, picture: Picture, near: float) -> None:
    """Hang leaves in loose clouds over the upper part, those before the light glowing."""
    height, width = picture.shape[1:]
    canvas = np.zeros((round(height * 0.72), width, 3), np.uint8)
    cover = np.zeros(canvas.shape[:2], np.uint8)
    size = width * (0.0024 + 0.0062 * near)
    clouds, each = int(64 - 26 * near), int(95 - 30 * near)
    middles = np.column_stack([rng.random(clouds) * width, height * (0.66 - 0.10 * near) * rng.random(clouds) ** 1.7])
    spread = width * rng.uniform(0.03, 0.085, (clouds, 1, 1)) * np.array([1.3, 0.75])
    centres = (middles[:, None] + rng.standard_normal((clouds, each, 2)) * spread).reshape(-1, 2)
    gains = rng.uniform(0.6, 1.05, len(centres)) * (
        0.82 + 0.35 * np.exp(-(((centres[:, 0] / width - 0.6) / 0.25) ** 2))
    )
    _leaves(rng, (canvas, cover), centres, size * rng.uniform(0.7, 1.3, len(centres)), gains, 0.8)
    shade = to_picture(canvas)
    mix(shade, colour("#fbdf9a"), 0.50 * (1 - near))
    mix(picture[:, : len(canvas)], shade, cover.astype(np.float32) / 255 * (0.80 + 0.2 * near))


def _rays(rng: np.random.Generator, picture: Picture) -> None:
    """Let shafts of light fall from the upper right through the mist."""
    height, width = picture.shape[1:]
    rows, columns = grid((height // 4, width // 4))
    angle = np.arctan2(columns - 0.95, (rows + 0.25) * height / width)
    beams = curve(rng, 1024, 50, gain=0.6)
    strength = smooth(beams[np.clip((angle + 1.5) * 340, 0, 1023).astype(int)], 0.1, 1.8)
    away = np.exp(-rows * 1.3) * smooth(rows, 0.92, 0.45)
    veil = cv2.resize((strength * away).astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    add(picture, colour("#ffe2a0"), veil * np.float32(0.26))
