"""A small harbour in the evening: gabled houses on the quay, sailing boats before them, everything in the water."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from scenes.boats import moor
from scenes.facade import Canvas, darken, fill, tiles, window
from scenes.paint import (
    Picture,
    add,
    bgr,
    bloom,
    colour,
    fractal,
    grid,
    mirror,
    mix,
    smooth,
    to_picture,
    vertical,
)

_SKY = [(0, "#3f78b8"), (0.25, "#7fb0d8"), (0.45, "#cfdde0"), (0.60, "#f7dfb8"), (1, "#f7dfb8")]
_WALLS = ["#c8553d", "#e9b44c", "#f2e3c6", "#5b8ba0", "#d98a6a", "#7d9a6a", "#f0c9a0", "#a63d40"]
_HULLS = ["#d8d2c4", "#1f4e6b", "#b23a34", "#d8d2c4", "#2f6f5e"]
_QUAY, _LINE = 0.585, 0.640


def draw(rng: np.random.Generator, height: int, width: int) -> Picture:
    """Return the picture, float32 (3, height, width)."""
    picture = _sky(rng, (height, width))
    line = round(height * _LINE)
    room = width * 5 // 4  # the last house runs out of the picture
    canvas, cover = np.zeros((line, room, 3), np.uint8), np.zeros((line, room), np.uint8)
    _houses(rng, canvas, cover, (width, round(height * _QUAY)))
    _wall(rng, canvas, cover, (round(height * _QUAY), line))
    _lay(rng, picture, canvas[:, :width], cover[:, :width])
    _fleet(rng, picture, line)
    _water(rng, picture, line)
    _near_boat(rng, picture)
    bloom(picture, width / 50, 0.25, 0.8)
    return picture


def _sky(rng: np.random.Generator, shape: tuple[int, int]) -> Picture:
    """Return a blue sky with heaped clouds, their left sides lit by a low sun."""
    picture = vertical(shape, _SKY)
    rows, _ = grid(shape)
    half = (shape[0] // 2, shape[1] // 2)
    heap = fractal(rng, half, shape[0] / 11, finest=3, gain=0.56, stretch=1.8)
    rise = np.linspace(0, 1, half[0], dtype=np.float32)[:, None]
    thick = smooth(heap + 0.9 * np.exp(-(((rise - 0.25) / 0.16) ** 2)) - 0.45, 0.0, 1.3)
    shift = half[1] / 55
    moved = cv2.warpAffine(
        heap, np.float32([[1, 0, shift], [0, 1, shift]]), half[::-1], borderMode=cv2.BORDER_REPLICATE
    )
    lit = np.clip(0.62 + (heap - moved) * 0.42, 0, 1)
    thick, lit = (cv2.resize(plane, shape[::-1], interpolation=cv2.INTER_LINEAR) for plane in (thick, lit))
    dark, bright = colour("#93a2bd"), colour("#fff1da")
    paint = np.stack([dark[k] + (bright[k] - dark[k]) * lit for k in range(3)])
    mix(picture, paint, thick * smooth(rows, 0.66, 0.40) * 0.92)
    return picture


def _houses(rng: np.random.Generator, canvas: Canvas, cover: Canvas, end: tuple[int, int]) -> None:
    """Build the row of houses up to the column and down to the row of `end`, no two alike."""
    (width, foot), left, index = end, 0, 0
    while left < width:
        wide = round(width * rng.uniform(0.135, 0.185))
        top = round(foot * rng.uniform(0.50, 0.62))
        _house(rng, canvas, cover, (left, top, left + wide, foot), index)
        left, index = left + wide, index + 1


def _house(rng: np.random.Generator, canvas: Canvas, cover: Canvas, box: tuple[int, int, int, int], index: int) -> None:
    """Draw one house: a stepped or a tiled gable, four floors of windows, a door."""
    left, top, right, foot = box
    wide = right - left
    wall, trim = _WALLS[(index * 3 + 1) % len(_WALLS)], "#f3ead8"
    cover[top:foot, left:right] = 255
    if index % 2:
        _stepped(canvas, cover, box, wall, trim)
    else:
        roof = top - wide * 42 // 100
        tiles(rng, canvas, (left, roof, right, top), max(4, wide // 24))
        cover[max(0, roof) : top, left:right] = 255
        _dormer(
            rng, canvas, (left + wide * 36 // 100, roof + wide // 12, left + wide * 64 // 100, top - wide // 30), wall
        )
        _chimney(canvas, cover, (left + wide * 3 // 4, roof - wide // 6, left + wide * 86 // 100, roof + 2))
    fill(canvas, (left, top, right, foot), wall)
    fill(canvas, (left, top, right, top + wide // 28), trim)
    darken(canvas, (left, top + wide // 28, right, top + wide // 14), 0.6)
    pitch, floors = (foot - top) / 4.35, 4
    for floor in range(floors):
        for column in range(3):
            middle, half = left + wide * (column + 0.5) / 3, wide * 0.088
            first = round(top + pitch * (floor + 0.28))
            place = (round(middle - half), first, round(middle + half), round(first + pitch * 0.58))
            window(rng, canvas, place, shutters=None, flowers=rng.random() < 0.25, trim=trim)
    darken(canvas, (right - wide // 40, top, right, foot), 0.62)
    _ground_floor(rng, canvas, (left, round(foot - pitch * 0.42), right, foot))


def _ground_floor(rng: np.random.Generator, canvas: Canvas, box: tuple[int, int, int, int]) -> None:
    """Draw a café front: a dark window with warm lamps, and an awning over it."""
    left, top, right, foot = box
    wide, tall = right - left, foot - top
    fill(canvas, (left + wide // 16, top, right - wide // 16, foot), "#3a2c22")
    for x in range(left + wide // 9, right - wide // 9, max(2, wide // 7)):
        fill(canvas, (x, top + tall // 3, x + wide // 10, foot - tall // 8), "#f2b866", rng.uniform(0.6, 1.0))
    code = str(rng.choice(["#b23a34", "#2f6f5e", "#1f4e6b", "#c98a2a"]))
    edges = np.linspace(left + wide / 20, right - wide / 20, 14).astype(int)
    for index, (first, last) in enumerate(pairwise(edges)):
        fill(canvas, (first, top - tall // 6, last, top + tall // 3), code if index % 2 else "#f4ecdc")
    darken(canvas, (left + wide // 20, top + tall // 3, right - wide // 20, top + tall // 2), 0.5)


def _stepped(canvas: Canvas, cover: Canvas, box: tuple[int, int, int, int], wall: str, trim: str) -> None:
    """Draw a stepped gable with a round window."""
    left, top, right, _ = box
    wide, steps = right - left, 6
    for step in range(steps):
        inset, rise = wide * (step + 1) // 14, wide * (step + 1) // 12
        low = top - wide * step // 12
        fill(canvas, (left + inset, top - rise, right - inset, low), wall)
        cover[top - rise : low, left + inset : right - inset] = 255
        for x in (left + inset, right - inset - wide // 14):
            fill(canvas, (x, top - rise, x + wide // 14, top - rise + max(1, wide // 50)), trim, 1.04)
        darken(canvas, (right - inset - wide // 60, top - rise, right - inset, low), 0.65)
    middle = ((left + right) // 2, top - wide // 5)
    cv2.circle(canvas, middle, wide // 13, bgr(trim), -1, cv2.LINE_AA)
    cv2.circle(canvas, middle, wide // 18, bgr("#42596b"), -1, cv2.LINE_AA)
    cv2.line(
        canvas, (middle[0], middle[1] - wide // 18), (middle[0], middle[1] + wide // 18), bgr(trim), max(1, wide // 90)
    )
    cv2.line(
        canvas, (middle[0] - wide // 18, middle[1]), (middle[0] + wide // 18, middle[1]), bgr(trim), max(1, wide // 90)
    )


def _dormer(rng: np.random.Generator, canvas: Canvas, box: tuple[int, int, int, int], wall: str) -> None:
    """Draw a dormer with one window in a tiled roof."""
    left, top, right, foot = box
    wide = right - left
    darken(canvas, (right, top + wide // 3, right + wide // 3, foot), 0.55)
    fill(canvas, (left, top + wide // 3, right, foot), wall, 1.05)
    points = [(left - wide // 8, top + wide // 3), ((left + right) // 2, top), (right + wide // 8, top + wide // 3)]
    cv2.fillConvexPoly(canvas, np.array(points, np.int32), bgr("#5b3326"), cv2.LINE_AA)
    inner = (left + wide // 4, top + wide // 2, right - wide // 4, foot - wide // 8)
    window(rng, canvas, inner, shutters=None, flowers=False, trim="#f3ead8")


def _chimney(canvas: Canvas, cover: Canvas, box: tuple[int, int, int, int]) -> None:
    """Draw a brick chimney with a cap."""
    left, top, right, foot = box
    fill(canvas, box, "#8a4a36")
    cover[max(0, top) : foot, left:right] = 255
    course = max(2, (foot - top) // 12)
    for y in range(top, foot, course):
        fill(canvas, (left, y, right, y + max(1, course // 5)), "#c9a890")
    darken(canvas, ((left + right) // 2, top, right, foot), 0.7)
    fill(canvas, (left, top, right, top + course), "#d8cbb8")


def _wall(rng: np.random.Generator, canvas: Canvas, cover: Canvas, rows: tuple[int, int]) -> None:
    """Lay the quay's granite blocks, wet and green near the water, with fenders and ladders."""
    top, line = rows
    width, high = canvas.shape[1], max(3, (line - top) // 7)
    cover[top:line] = 255
    fill(canvas, (0, top, width, line), "#4e4840")
    for course, y in enumerate(range(top, line, high)):
        x = -int(rng.integers(high * 3))
        while x < width:
            wide = int(high * rng.uniform(1.6, 3.4))
            gain = rng.uniform(0.82, 1.12) * (1.12 if course == 0 else 1.0)
            fill(
                canvas,
                (x + 1, y + 1, x + wide - 1, min(line, y + high - 1)),
                "#a3968a" if course < 5 else "#5c6350",
                gain,
            )
            fill(
                canvas,
                (x + 1, y + 1, x + wide - 1, y + max(2, high // 8)),
                "#d4c4b0" if course < 5 else "#78805f",
                gain,
            )
            x += wide
    for x in range(width // 9, width, width // 5):
        for y in range(top + high // 2, line, max(2, high // 2)):
            fill(canvas, (x, y, x + high, y + max(1, high // 8)), "#2c2620")


def _lay(rng: np.random.Generator, picture: Picture, canvas: Canvas, cover: Canvas) -> None:
    """Lay the houses into the picture with plaster grain and the evening's warm light."""
    line = len(cover)
    shade = to_picture(canvas)
    grain = fractal(rng, shade.shape[1:], line / 60, finest=1.5, gain=0.85)
    stains = fractal(rng, shade.shape[1:], line / 5, finest=4, gain=0.7, stretch=0.15)
    tone = 1 + 0.035 * grain + 0.05 * stains
    for index, warm in enumerate((1.08, 0.99, 0.88)):
        shade[index] *= tone * np.float32(warm)
    mix(picture[:, :line], shade, cover.astype(np.float32) / 255)


def _fleet(rng: np.random.Generator, picture: Picture, line: int) -> None:
    """Moor sailing boats along the quay."""
    width = picture.shape[2]
    for index, place in enumerate((0.10, 0.37, 0.60, 0.88)):
        size = width * rng.uniform(0.20, 0.26)
        moor(rng, picture, (place * width, line + width * 0.004), size, _HULLS[index % len(_HULLS)])


def _water(rng: np.random.Generator, picture: Picture, line: int) -> None:
    """Mirror it all in the harbour's small waves, their flanks showing the deep green or the sky."""
    height, width = picture.shape[1:]
    rows = height - line
    near = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    swell = fractal(rng, (rows, width), height / 40, finest=height / 600, gain=0.6, stretch=4.5)
    fine = fractal(rng, (rows, width), height / 170, finest=1.5, gain=0.68, stretch=5)
    shift = (swell * (0.003 + 0.030 * near) + fine * (0.0015 + 0.010 * near)) * height
    water = mirror(picture, line, shift - near * rows * 0.42, swell * near * np.float32(height * 0.006))
    flank = smooth(swell * 0.7 + fine * 0.75, 0.5, 1.8) * (0.35 + 0.5 * near)
    deep, sky = colour("#12333c"), colour("#dfe6e2")
    for plane, mirrored, dark, bright in zip(picture, water, deep, sky, strict=True):
        plane[line:] = mirrored * (0.80 - 0.22 * near) + dark * (0.14 + 0.16 * near)
        plane[line:] += (bright * 0.85 - plane[line:]) * flank * 0.34
        plane[line:] += (dark - plane[line:]) * smooth(-swell - 0.6 * fine, 0.6, 2.0) * (0.3 + 0.4 * near)
    add(picture[:, line : line + 3], colour("#0c1a1e"), -0.2)


def _near_boat(rng: np.random.Generator, picture: Picture) -> None:
    """Moor a larger boat in front, with its own reflection under it."""
    height, width = picture.shape[1:]
    size, foot = width * 0.46, (width * 0.69, height * 0.862)
    before = picture[:, : round(foot[1])].copy()
    moor(rng, picture, foot, size, "#1f4e6b")
    change = np.abs(picture[:, : round(foot[1])] - before).max(axis=0) > 1e-3
    rows = min(height - round(foot[1]), round(size * 0.6))
    wave = fractal(rng, (rows, width), height / 70, finest=2, gain=0.65, stretch=4) * np.float32(height * 0.004)
    image = mirror(picture, round(foot[1]), wave, wave)
    mask = mirror(change.astype(np.float32)[None], round(foot[1]), wave, wave)[0]
    fade = np.linspace(0.85, 0.45, rows, dtype=np.float32)[:, None]
    window = picture[:, round(foot[1]) : round(foot[1]) + rows]
    mix(window, image * np.array([0.62, 0.70, 0.74], np.float32)[:, None, None], mask * fade)
