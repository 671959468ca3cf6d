"""Where a photo that does not fill the frame lies in it, and how much of each sample it covers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fanreel.draw.layers import Planes
from fanreel.draw.planes import PLANE_GRIDS, Grid
from fanreel.draw.resample_blocks import BLENDED
from fanreel.plan.camera import Rect
from fanreel.plan.content import Photo

__all__ = ["FULL_COVERAGE", "Cover", "covers_of", "joint_place", "lay_beside"]

FULL_COVERAGE = 256
"""Of a sample that lies inside the photo. What is between is mixed in integers, alike on every machine."""


@dataclass(frozen=True, slots=True)
class Cover:
    """How much of each sample of a plane the photo covers: that of its row times that of its column.

    Attributes:
        rows: uint16, (height,), from 0 to `FULL_COVERAGE`.
        columns: uint16, (width,).
    """

    rows: np.ndarray
    columns: np.ndarray

    @property
    def touched(self) -> tuple[slice, slice]:
        """Rows and columns of which the photo covers something."""
        return _where(self.rows > 0), _where(self.columns > 0)

    @property
    def filled(self) -> tuple[slice, slice]:
        """Rows and columns that the photo covers wholly."""
        return _where(self.rows == FULL_COVERAGE), _where(self.columns == FULL_COVERAGE)


def covers_of(view: Rect, photo: Photo, *, width_px: int, height_px: int) -> tuple[Cover, Cover, Cover]:
    """Return the covers of Y, U and V in a frame that shows `view`.

    A sample stands for the square as large as the distance to the next one around it, as far as that lies in the frame.

    Args:
        view: Px of the photo; may reach beyond it.
        photo: Its size.
        width_px: Width of the frame.
        height_px: Height of the frame.
    """
    left, right = (width_px * (edge - view.x0) / view.width for edge in (0.0, float(photo.width_px)))
    top, bottom = (height_px * (edge - view.y0) / view.height for edge in (0.0, float(photo.height_px)))
    luma, blue, red = (
        Cover(rows=_shares(top, bottom, height_px, down), columns=_shares(left, right, width_px, across))
        for across, down in PLANE_GRIDS
    )
    return luma, blue, red


def joint_place(first: Cover, last: Cover) -> tuple[slice, slice]:
    """Return rows and columns that hold all that the photo touches at either end of a move, and so at any time.

    The columns are whole blocks of the resampler, which is several times slower where less than a block is left.
    """
    rows, columns = (
        slice(min(a.start, b.start), max(a.stop, b.stop, 1)) for a, b in zip(first.touched, last.touched, strict=True)
    )
    stop = min(-(-columns.stop // BLENDED) * BLENDED, len(first.columns))
    return rows, slice(columns.start // BLENDED * BLENDED, stop)


def _shares(start: float, stop: float, size_px: int, grid: Grid) -> np.ndarray:
    """Return how much of each sample along one axis lies between two edges, in px of the frame."""
    near, far, covers_a_px = _samples(size_px, grid)
    inside = np.maximum(np.minimum(far, stop) - np.maximum(near, start), 0.0)
    return np.floor(inside * covers_a_px + 0.5).astype(np.uint16)


@functools.lru_cache(maxsize=16)
def _samples(size_px: int, grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return where each sample along one axis begins and ends, in px of the frame, and its cover for each px of it."""
    first, pitch = grid
    centres = first + pitch * np.arange(size_px // pitch, dtype=np.float64)
    near, far = np.maximum(centres - pitch / 2, 0.0), np.minimum(centres + pitch / 2, float(size_px))
    return near, far, FULL_COVERAGE / (far - near)


def _where(true: np.ndarray) -> slice:
    """Return the range that holds, where all that holds is in one range; an empty one if nothing does."""
    places = np.flatnonzero(true)
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)


def lay_beside(planes: Planes, backdrop: Planes, covers: Sequence[Cover]) -> None:
    """Put the backdrop where the photo is not; samples that it covers in part become a mixture.

    That is `(photo * cover + backdrop * (256 - cover) + 128) >> 8`, with the rounded product of the row's and the
    column's covers.

    Args:
        planes: Y, U and V, in which the photo has been drawn wherever it covers something.
        backdrop: The same planes of the backdrop.
        covers: Those of Y, U and V.
    """
    for plane, behind, cover in zip(planes, backdrop, covers, strict=True):
        (rows, columns), (whole_rows, whole_columns) = cover.touched, cover.filled
        for place in _around(rows, columns, slice(0, plane.shape[0]), slice(0, plane.shape[1])):
            plane[place] = behind[place]
        for place in _around(whole_rows, whole_columns, rows, columns):
            _mix(plane[place], behind[place], cover.rows[place[0]], cover.columns[place[1]])


def _around(rows: slice, columns: slice, all_rows: slice, all_columns: slice) -> list[tuple[slice, slice]]:
    """Return the four parts of a rectangle beside an inner one, without those that are empty."""
    parts = [
        (slice(all_rows.start, rows.start), all_columns),
        (slice(rows.stop, all_rows.stop), all_columns),
        (rows, slice(all_columns.start, columns.start)),
        (rows, slice(columns.stop, all_columns.stop)),
    ]
    return [part for part in parts if all(side.start < side.stop for side in part)]


def _mix(plane: np.ndarray, behind: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
    # Of rows and columns, at least one holds the product below 2**16; 255 * 256 + 128 fits too.
    cover = ((rows[:, None].astype(np.uint32) * columns + 128) >> 8).astype(np.uint16)
    plane[:] = (plane * cover + behind * (np.uint16(FULL_COVERAGE) - cover) + np.uint16(128)) >> np.uint16(8)
