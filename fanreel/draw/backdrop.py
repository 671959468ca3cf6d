"""What lies beside a photo that does not fill the frame: a colour, or a blurred, darkened copy of the photo.

Made once a photo. The copy is shrunk to a coarse grid, blurred there, and enlarged by cubic B-splines, which leave no
trace of the grid. Between grid and frame, values have 8 bits more than samples.
"""

from __future__ import annotations

import numpy as np

from fanreel.draw.colour import colour_samples
from fanreel.draw.layers import BLACK, Planes
from fanreel.draw.planes import PLANE_GRIDS, Grid, PhotoPlanes
from fanreel.draw.resample import AxisMap, BorderedPlane, Resampler
from fanreel.plan.camera import Rect, place_view
from fanreel.plan.content import ColourContent, Photo, StillContent

__all__ = ["BRIGHTNESS", "GRID_CELLS", "make_backdrop"]

GRID_CELLS = 36
"""Cells of the grid along the shorter side of the frame. The blur's sigma is 1.7 of them, a twentieth of that side."""

BOX_PASSES = 3
"""Boxes of three cells, one after the other: nearly a Gaussian of sigma 1.4."""

BRIGHTNESS = 140
"""Of the copy, in 256ths of the photo's."""


def make_backdrop(still: StillContent, prepared: PhotoPlanes, *, width_px: int, height_px: int) -> Planes:
    """Return Y, U and V of the frame without the photo.

    Args:
        still: What is shown; it has a backdrop.
        prepared: The photo's planes, as its move needs them.
        width_px: Width of the frame, even.
        height_px: Height of the frame, even.
    """
    sizes = [(height_px // down[1], width_px // across[1]) for across, down in PLANE_GRIDS]
    if isinstance(still.backdrop, ColourContent):
        samples = colour_samples(still.backdrop.rgb)
        return [np.full(size, sample, np.uint8) for size, sample in zip(sizes, samples, strict=True)]
    return _blurred_copy(still.photo, prepared, width_px=width_px, height_px=height_px)


def _blurred_copy(photo: Photo, prepared: PhotoPlanes, *, width_px: int, height_px: int) -> Planes:
    cell_px = min(width_px, height_px) / GRID_CELLS
    cells = (max(1, round(width_px / cell_px)), max(1, round(height_px / cell_px)))
    height = min(float(photo.height_px), photo.width_px * height_px / width_px)
    view = place_view(photo.width_px / 2, photo.height_px / 2, height * width_px / height_px, height, photo.size_px)
    copies = []
    for plane, (across, down), black in zip(prepared.planes, PLANE_GRIDS, BLACK, strict=True):
        grid = _shrunk(plane, view, prepared.scale, cells, across, down)
        values = _blurred(grid.astype(np.int32) - black) * BRIGHTNESS // 3 ** (2 * BOX_PASSES) + black * 256
        copies.append(_enlarged(values, width_px, height_px, across, down))
    return copies


def _shrunk(
    plane: BorderedPlane, view: Rect, scale: float, cells: tuple[int, int], across: Grid, down: Grid
) -> np.ndarray:
    """Return what of a plane lies in each cell of the grid: uint8, (rows, columns)."""
    columns, rows = cells
    grid = np.empty((rows, columns), np.uint8)
    Resampler(height=rows, width=columns).resample(
        plane,
        x=_cell_map(view.x0, view.width / columns, scale, across),
        y=_cell_map(view.y0, view.height / rows, scale, down),
        out=grid,
    )
    return grid


def _cell_map(start: float, cell: float, scale: float, grid: Grid) -> AxisMap:
    """Return where the cells' middles lie in a plane; `start` and `cell` are in px of the photo."""
    first, pitch = grid
    return AxisMap(origin=((start + cell / 2) / scale - first) / pitch, step=cell / scale / pitch)


def _blurred(grid: np.ndarray) -> np.ndarray:
    """Return sums of `3**BOX_PASSES` squared neighbours each."""
    sums = np.pad(grid, BOX_PASSES, mode="edge")
    for _ in range(BOX_PASSES):
        sums = sums[:-2] + sums[1:-1] + sums[2:]
        sums = sums[:, :-2] + sums[:, 1:-1] + sums[:, 2:]
    return sums


def _enlarged(values: np.ndarray, width_px: int, height_px: int, across: Grid, down: Grid) -> np.ndarray:
    """Return the samples of a plane, uint8, from values of 256 times their size at the middles of the grid's cells."""
    rows, columns = values.shape
    starts, weights = _spline_taps(width_px, columns, across)
    near = np.pad(values, ((2, 2), (2, 2)), mode="edge")
    wide = np.sum([near[:, starts + tap] * weights[tap] for tap in range(4)], axis=0) + 128 >> 8
    starts, weights = _spline_taps(height_px, rows, down)
    out = np.empty((len(starts), wide.shape[1]), np.uint8)
    for row, (start, shares) in enumerate(zip(starts, weights.T, strict=True)):
        out[row] = shares @ wide[start : start + 4] + (1 << 15) >> 16
    return out


def _spline_taps(size_px: int, cells: int, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each sample along an axis, the first of four cells (two are before the grid) and their weights.

    The weights, (4, samples), add up to 256.
    """
    first, pitch = grid
    places = (first + pitch * np.arange(size_px // pitch)) * cells / size_px + 0.5
    starts = np.floor(places).astype(np.int32)
    t = places - starts
    u = 1 - t
    shares = np.stack([u * u * u, (3 * t - 6) * t * t + 4, (3 * u * t + 3) * t + 1, t * t * t])
    weights = np.floor(shares * (256 / 6) + 0.5).astype(np.int32)
    weights[1] += 256 - weights.sum(axis=0)
    return starts, weights
