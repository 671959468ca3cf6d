"""A city at night: towers with lit windows, an afterglow behind them, and all of it in the water."""

from __future__ import annotations

import cv2
import numpy as np

from scenes.night import stars
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
    mirror,
    mix,
    smooth,
    to_picture,
    vertical,
)

_SKY = [
    (0, "#0a1029"),
    (0.28, "#1c2450"),
    (0.42, "#5a4384"),
    (0.52, "#c4687f"),
    (0.58, "#f08f6c"),
    (0.64, "#ffb27a"),
    (1, "#f2a070"),
]
_LIT = ["#ffd79a", "#ffc878", "#ffe7c2", "#fff4e0", "#cfe4ff", "#ffb45c"]
_SIGNS = ["#ff4f6a", "#49c8ff", "#ffb13d", "#8f6bff", "#4dffc0"]
_WATER = 0.66


def draw(rng: np.random.Generator, height: int, width: int) -> Picture:
    """Return the picture, float32 (3, height, width)."""
    picture = _sky(rng, (height, width))
    line = round(height * _WATER)
    for layer in range(4):
        _row(rng, picture, line, layer)
    _quay(rng, picture, line)
    bloom(picture[:, :line], width / 45, 0.95, 0.62)
    bloom(picture[:, :line], width / 400, 0.5, 0.75)
    _river(rng, picture, line)
    return picture


def _sky(rng: np.random.Generator, shape: tuple[int, int]) -> Picture:
    """Return dusk with streaks of cloud that catch the last light."""
    picture = vertical(shape, _SKY)
    rows, columns = grid(shape)
    clouds = fractal(rng, shape, shape[0] / 9, finest=6, gain=0.52, stretch=6)
    glow = np.exp(-(((columns - 0.66) / 0.30) ** 2) - ((rows - 0.62) / 0.24) ** 2)
    mix(picture, colour("#e27f7a"), smooth(clouds, 0.2, 2.0) * smooth(rows, 0.05, 0.5) * 0.55)
    mix(picture, colour("#131a3d"), smooth(clouds, -0.1, -1.9) * 0.5)
    add(picture, colour("#ff9148"), glow * np.float32(0.42))
    stars(rng, picture, shape[1] // 9, smooth(rows, 0.36, 0.0) * smooth(clouds, 0.8, 0))
    return picture


def _row(rng: np.random.Generator, picture: Picture, line: int, layer: int) -> None:
    """Build one row of towers, the farthest first; far ones are paler and their windows dimmer."""
    width = picture.shape[2]
    canvas, cover = np.zeros((line, width, 3), np.uint8), np.zeros((line, width), np.uint8)
    near = layer / 3
    left = -width * rng.uniform(0, 0.03)
    while left < width:
        wide = width * rng.uniform(0.020, 0.046) * (0.62 + 0.5 * near)
        middle = (left + wide / 2) / width
        hill = np.exp(-(((middle - 0.36) / 0.17) ** 2)) + 0.62 * np.exp(-(((middle - 0.80) / 0.10) ** 2))
        tall = line * (0.20 + 0.46 * hill * (1 - 0.5 * near)) * rng.uniform(0.55, 1.12) * (1 - 0.34 * near)
        _tower(rng, canvas, cover, (round(left), round(line - tall), round(left + wide)), near)
        left += wide * rng.uniform(0.72, 1.25)
    air = colour("#9a6684") * (1 - near) + colour("#33304f") * near
    rise = np.linspace(1, 0, line, dtype=np.float32)[:, None]
    shade = to_picture(canvas)
    mix(shade, air, (0.46 - 0.40 * near) * (1 - 0.55 * rise))
    add(shade, colour("#ff9c55"), np.exp(-rise * 16) * np.float32(0.16))
    mix(picture[:, :line], shade, cover.astype(np.float32) / 255)


def _tower(rng: np.random.Generator, canvas: Plane, cover: Plane, box: tuple[int, int, int], near: float) -> None:
    """Draw one tower from the row of its roof down to the water, with a crown of its own kind."""
    left, top, right = box
    bottom, wide = canvas.shape[0], right - left
    wall = bgr(str(rng.choice(["#1d1c33", "#24203a", "#191a2e", "#2b2438", "#1f2440"])), rng.uniform(0.7, 1.2))
    parts = [(left, top, right)]
    if wide > 8 and rng.random() < 0.55:
        for step in range(1, int(rng.integers(2, 5))):
            inset, rise = int(wide * 0.11 * step), int(wide * 0.28 * step)
            parts.append((left + inset, top - rise, right - inset))
    for first, roof, last in parts[::-1]:
        cv2.rectangle(canvas, (first, roof), (last, bottom), wall, -1)
        cv2.rectangle(cover, (first, roof), (last, bottom), 255, -1)
        _windows(rng, canvas, (first, max(0, roof), last, bottom), near)
    edge = max(1, wide // 26)
    cv2.rectangle(canvas, (right - edge, top), (right, bottom), tuple(part * 0.55 for part in wall), -1)
    _crown(rng, canvas, cover, parts[-1])


def _crown(rng: np.random.Generator, canvas: Plane, cover: Plane, box: tuple[int, int, int]) -> None:
    """Put a mast with a red lamp, a tank or a lit sign on a roof."""
    left, top, right = box
    wide, kind = right - left, rng.random()
    middle, thin = (left + right) // 2, max(1, (right - left) // 40)
    if kind < 0.45:
        tip = top - int(wide * rng.uniform(0.5, 1.5))
        for target, value in ((canvas, bgr("#241f38")), (cover, 255)):
            cv2.line(target, (middle, top), (middle, tip), value, thin, cv2.LINE_AA)
            cv2.line(target, (middle, top), (middle, (top + tip) // 2), value, thin * 3, cv2.LINE_AA)
        for target, value in ((canvas, bgr("#ff5a48")), (cover, 255)):
            cv2.circle(target, (middle, tip), thin * 2, value, -1, cv2.LINE_AA)
    elif kind < 0.62:
        sign = (left + wide // 6, top + wide // 12, right - wide // 6, top + wide // 5)
        cv2.rectangle(canvas, sign[:2], sign[2:], bgr(str(rng.choice(_SIGNS))), -1)
    elif kind < 0.85:
        for target, value in ((canvas, bgr("#15142a")), (cover, 255)):
            cv2.rectangle(target, (left + wide // 5, top - wide // 7), (middle, top), value, -1)


def _windows(rng: np.random.Generator, canvas: Plane, box: tuple[int, int, int, int], near: float) -> None:
    """Light some of a wall's windows: whole floors in offices, single rooms in flats."""
    left, top, right, bottom = box
    pitch = max(2.0, canvas.shape[1] / 560 * rng.uniform(0.75, 1.3) * (0.7 + 0.7 * near))
    floor = pitch * rng.uniform(1.0, 1.5)
    columns, rows = int((right - left - pitch * 0.6) / pitch), int((bottom - top - floor) / floor)
    if columns < 1 or rows < 1:
        return
    share = rng.uniform(0.22, 0.72)
    by_floor = np.clip(share + 0.42 * rng.standard_normal((rows, 1)) * rng.random(), 0.02, 0.95)
    lit = rng.random((rows, columns)) < by_floor
    main, gap = _LIT[int(rng.integers(len(_LIT)))], rng.uniform(0.22, 0.42)
    for row, column in zip(*np.nonzero(lit), strict=True):
        tint = main if rng.random() < 0.72 else _LIT[int(rng.integers(len(_LIT)))]
        x, y = left + pitch * (0.45 + column), top + floor * (0.5 + row)
        corner = (round(x + pitch * (1 - gap)) - 1, round(y + floor * (0.82 - gap)) - 1)
        first = (round(x), round(y))
        cv2.rectangle(canvas, first, (max(first[0], corner[0]), max(first[1], corner[1])), _dim(rng, tint), -1)


def _dim(rng: np.random.Generator, tint: str) -> tuple[float, float, float]:
    """Return a window's light, few of them bright."""
    return bgr(tint, 0.50 + 0.85 * rng.random() ** 1.4)


def _quay(rng: np.random.Generator, picture: Picture, line: int) -> None:
    """Draw the quay with its wall, trees and lamps."""
    height, width = picture.shape[1:]
    crowns = curve(rng, width, width / 40, gain=0.75) * 0.3 + curve(rng, width, width / 300, gain=0.8) * 0.35
    tops = line - height * (0.014 + 0.008 * crowns)
    rows = np.arange(int(line - height * 0.05), line, dtype=np.float32)[:, None]
    window = picture[:, int(rows[0, 0]) : line]
    mix(window, colour("#141a24"), np.clip(rows - tops, 0, 1))
    leaves = fractal(rng, window.shape[1:], height / 260, finest=1.5, gain=0.8)
    add(window, colour("#4a4a20"), np.clip(rows - tops, 0, 1) * np.maximum(leaves, 0) * 0.35)
    mix(picture[:, line - max(2, height // 220) : line], colour("#2a2430"), 1.0)
    for place in np.arange(0.006, 1, 0.0172):
        _lamp(picture, (round((place + rng.uniform(-0.002, 0.002)) * width), line), height)


def _lamp(picture: Picture, foot: tuple[int, int], height: int) -> None:
    """Draw a lamp on the quay with its halo."""
    reach, rise = max(3, height // 55), height // 75
    axis = np.linspace(-1, 1, 2 * reach + 1, dtype=np.float32) ** 2
    glow = np.exp(-(axis[:, None] + axis[None, :]) * 60) * 1.7 + np.exp(-(axis[:, None] + axis[None, :]) * 9) * 0.28
    x, y = foot[0] - reach, foot[1] - rise - reach
    first, last = max(0, x), min(picture.shape[2], x + 2 * reach + 1)
    window = picture[:, y : min(foot[1], y + 2 * reach + 1), first:last]
    add(window, colour("#ffc27a"), glow[: window.shape[1], first - x : last - x])


def _river(rng: np.random.Generator, picture: Picture, line: int) -> None:
    """Mirror the city in moving water: the light drawn out downwards, broken by small waves."""
    height, width = picture.shape[1:]
    rows = height - line
    near = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    swell = fractal(rng, (rows, width), height / 55, finest=height / 900, gain=0.66, stretch=7)
    fine = fractal(rng, (rows, width), height / 260, finest=2, gain=0.6, stretch=8)
    shift = (swell * (0.004 + 0.020 * near) + fine * (0.004 + 0.012 * near)) * height
    tall = picture.copy()
    for plane in tall:  # waves spread each light over many rows
        plane[:line] = 0.45 * plane[:line] + 0.55 * cv2.blur(plane[:line], (1, max(3, height // 30)))
    water = mirror(tall, line, shift - near * rows * 0.25, fine * np.float32(height * 0.0012))
    slope = np.clip(0.75 + 0.22 * (fine + 0.6 * swell), 0.25, 1.3)
    deep = colour("#0b1430")
    for plane, mirrored, part in zip(picture, water, deep, strict=True):
        plane[line:] = mirrored * slope * (1.08 - 0.26 * near) + part * (0.30 + 0.2 * near)
