"""An old town's fronts in the afternoon sun: three houses wall to wall, windows in rows, tiles above."""

from __future__ import annotations

import cv2
import numpy as np

from scenes.facade import Canvas, darken, fill, tiles, window
from scenes.paint import Picture, bgr, colour, fractal, grid, mix, smooth, to_picture

_HOUSES = [("#e3a55c", "#2f6d6a", "#efe2c8"), ("#d9775a", "#3f5f86", "#f0e4d0"), ("#ead9ae", "#6f8f4f", "#d9c7a4")]


def draw(rng: np.random.Generator, height: int, width: int) -> Picture:
    """Return the picture, float32 (3, height, width)."""
    canvas = np.zeros((height, width, 3), np.uint8)
    edges = [round(width * part) for part in (0, 0.36, 0.68, 1)]
    for index, house in enumerate(_HOUSES):
        fill(canvas, (edges[index], 0, edges[index + 1], height), house[0])
    _plaster(rng, canvas)
    for index, house in enumerate(_HOUSES):
        _house(rng, canvas, (edges[index], edges[index + 1]), house, index)
    picture = to_picture(canvas)
    _age(rng, picture)
    return picture


def _plaster(rng: np.random.Generator, canvas: Canvas) -> None:
    """Give the bare walls a trowelled grain, streaks of rain and patches where bricks show."""
    shape = canvas.shape[:2]
    grain = fractal(rng, shape, shape[0] / 120, finest=1.5, gain=0.85)
    streaks = fractal(rng, shape, shape[0] / 3, finest=shape[0] / 400, gain=0.75, stretch=0.08)
    patches = fractal(rng, shape, shape[0] / 7, finest=shape[0] / 500, gain=0.62)
    bricks = _bricks(rng, shape)
    tone = 1 + 0.035 * grain + 0.06 * streaks + 0.05 * patches
    bare = smooth(patches + 0.10 * grain, 1.72, 1.76)
    edge = smooth(patches + 0.10 * grain, 1.60, 1.72) * (1 - bare)
    for plane in range(3):
        layer = canvas[:, :, plane] * tone * (1 - 0.22 * edge)
        layer += (bricks * np.float32(bgr("#a4593c")[plane]) - layer) * bare
        canvas[:, :, plane] = np.clip(layer, 0, 255).astype(np.uint8)


def _bricks(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Return the brightness of a wall of bricks in running bond, with mortar between."""
    high, wide = max(3, shape[0] // 130), max(7, shape[0] // 54)
    rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    course = rows // high
    across = columns + (course % 2) * (wide // 2)
    tones = rng.uniform(0.68, 1.12, (shape[0] // high + 1, (shape[1] + wide) // wide + 1)).astype(np.float32)
    brick = tones[course, across // wide]
    mortar = (rows % high < max(1, high // 7)) | (across % wide < max(1, high // 7))
    return np.where(mortar, np.float32(1.25), brick)


def _house(
    rng: np.random.Generator, canvas: Canvas, sides: tuple[int, int], house: tuple[str, ...], index: int
) -> None:
    """Draw the roof, the cornice, three floors of windows and the ground floor of one house."""
    height = canvas.shape[0]
    left, right = sides
    _, shutters, trim = house
    eave = round(height * (0.115, 0.155, 0.090)[index])
    unit = (right - left) / 3
    for floor in range(3):
        top = round(eave + height * (0.075 + 0.245 * floor))
        tall = round(height * (0.140, 0.155, 0.160)[floor])
        for column in range(3):
            middle, half = left + unit * (column + 0.5), unit * 0.205
            box = (round(middle - half), top, round(middle + half), top + tall)
            window(rng, canvas, box, shutters=shutters, flowers=rng.random() < 0.62, trim=trim)
        _band(canvas, (left, right), round(top + tall + height * 0.055), height, trim)
    _street(rng, canvas, sides, house)
    tiles(rng, canvas, (left, 0, right, eave), round(height / 62))
    _cornice(canvas, sides, eave, trim)
    darken(canvas, (right - max(1, height // 250), eave, right, height), 0.7)
    _pipe(canvas, right - height // 90, eave, height)


def _band(canvas: Canvas, sides: tuple[int, int], row: int, height: int, trim: str) -> None:
    """Draw a string course between two floors."""
    thick = max(1, height // 200)
    fill(canvas, (sides[0], row, sides[1], row + thick), trim)
    darken(canvas, (sides[0], row + thick, sides[1], row + thick * 2), 0.68)


def _cornice(canvas: Canvas, sides: tuple[int, int], eave: int, trim: str) -> None:
    """Draw the cornice under the tiles, with its teeth and its long shadow."""
    unit = max(2, canvas.shape[0] // 150)
    left, right = sides
    fill(canvas, (left, eave, right, eave + unit * 2), trim, 1.03)
    darken(canvas, (left, eave, right, eave + unit // 2), 0.6)
    darken(canvas, (left, eave + unit * 2, right, eave + unit * 4), 0.55)
    darken(canvas, (left, eave + unit * 4, right, eave + unit * 5), 0.78)
    for x in range(left + unit // 2, right - unit, unit * 2):
        fill(canvas, (x, eave + unit * 2, x + unit, eave + unit * 3), trim, 0.96)


def _pipe(canvas: Canvas, column: int, top: int, height: int) -> None:
    """Run a copper rain pipe down the seam between two houses."""
    half = max(2, height // 320)
    round_light = np.clip(1.25 - np.abs(np.linspace(-1.25, 0.95, 2 * half)), 0.2, 1.2)
    darken(canvas, (column + half, top, column + 2 * half, height), 0.6)
    fill(canvas, (column - half, top, column + half, height), "#7f9a8c")
    part = canvas[top:, column - half : column + half]
    part[:] = (part * round_light[None, : part.shape[1], None]).clip(0, 255).astype(np.uint8)
    for y in range(top + height // 9, height, height // 6):
        fill(canvas, (column - half - 2, y, column + half + 2, y + max(2, half)), "#5f7468")


def _street(rng: np.random.Generator, canvas: Canvas, sides: tuple[int, int], house: tuple[str, ...]) -> None:
    """Draw what shows of the ground floor: striped awnings over shop windows."""
    height = canvas.shape[0]
    left, right = sides
    top, wide = round(height * 0.925), right - left
    first, last = left + wide // 14, right - wide // 14
    fill(canvas, (first, top, last, height), "#2a2622")
    stripes = 17
    edges = np.linspace(first, last, stripes + 1)
    for index in range(stripes):
        code = house[1] if index % 2 else "#f3ead8"
        spread = (edges[index : index + 2] - (first + last) / 2) * 1.04 + (first + last) / 2
        points = [
            (edges[index], top),
            (edges[index + 1], top),
            (spread[1], height * 0.985),
            (spread[0], height * 0.985),
        ]
        cv2.fillConvexPoly(canvas, np.array(points, np.int32), bgr(code, 0.98), cv2.LINE_AA)
        middle = (int(spread.mean()), int(height * 0.985))
        cv2.ellipse(
            canvas, middle, (int(np.ptp(spread) / 2), height // 110), 0, 0, 180, bgr(code, 0.85), -1, cv2.LINE_AA
        )
    darken(canvas, (first, top, last, top + height // 200), 0.7)


def _age(rng: np.random.Generator, picture: Picture) -> None:
    """Lay the afternoon over it: warm light, a leafy shadow from the left, grime under the eaves."""
    shape = picture.shape[1:]
    rows, columns = grid(shape)
    dapple = fractal(rng, (shape[0] // 2, shape[1] // 2), shape[0] / 12, finest=3, gain=0.62)
    dapple = cv2.resize(dapple, shape[::-1], interpolation=cv2.INTER_LINEAR)
    reach = smooth(columns * 0.9 + rows * 0.55 + 0.05 * dapple, 0.62, 0.28)
    shade = smooth(dapple, -0.35, 0.10) * reach
    for index, (dark, warm) in enumerate([(0.50, 1.10), (0.54, 1.02), (0.66, 0.90)]):
        picture[index] *= np.float32(warm) * (1 - np.float32(1 - dark) * shade)
    mix(picture, colour("#ffcf8a"), 0.10 * smooth(columns + 0.4 * (1 - rows), 0.2, 1.4))
