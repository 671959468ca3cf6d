"""A photo's planes, prepared for a camera: BT.709 limited range, 4:2:0, at the size needed.

Everything from the decoded pixels on is integer arithmetic, so the planes are the same on every CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fanreel.draw import bt709, resample
from fanreel.draw.bt709 import convert_to_bt709
from fanreel.draw.resample import BorderedPlane
from fanreel.photos.photo import DecodedPhoto, decode_photo
from fanreel.plan.camera import CameraPath, Rect
from fanreel.plan.content import Photo

__all__ = ["PLANE_GRIDS", "Grid", "PhotoPlanes", "plane_maps", "prepare_planes", "warm"]

# Where the first sample of a plane lies on the luma grid, in luma px from the left or top edge, and how
# many luma px lie between samples. Chroma is sited left and halfway down.
# Source: ITU-T H.264, E.2.1, chroma_sample_loc_type 0, the default that players assume.
Grid = tuple[float, int]
_LUMA: Grid = (0.5, 1)
_CHROMA_ACROSS: Grid = (0.5, 2)
_CHROMA_DOWN: Grid = (1.0, 2)

PLANE_GRIDS: tuple[tuple[Grid, Grid], ...] = ((_LUMA, _LUMA), *[(_CHROMA_ACROSS, _CHROMA_DOWN)] * 2)
"""The grids of Y, U and V, across and down."""

OVERSAMPLING = 1.1
"""Samples of the prepared planes for each px of the nearest view, where the photo has so many.

At 1 a pan would read all its samples at one phase, which the kernel blurs and shifts a little: the picture
would tremble by 0.017 to 0.06 px/frame^2 instead of 0.002. More keeps more of what is filtered twice, and costs
more in every frame: docs/decisions/0011.
"""

ENLARGED_PAN = 0.9
"""Px of the photo a px of the film from which on a pan's planes are made larger than the photo to have that many."""


BAND_ROWS = 128
"""Rows of luma that are made at a time: even, as chroma has half of them."""


@dataclass(frozen=True, slots=True)
class PhotoPlanes:
    """The planes of one photo.

    Attributes:
        planes: Y, U and V.
        scale: Px of the photo that one luma sample covers.
    """

    planes: tuple[BorderedPlane, BorderedPlane, BorderedPlane]
    scale: float


def prepare_planes(path: Path, photo: Photo, camera: CameraPath, *, width_px: int) -> PhotoPlanes:
    """Return the planes of a photo, somewhat larger than the nearest view of `camera` asks for.

    Args:
        path: Where the photo's bytes are.
        photo: What was planned.
        camera: The move that will be made over it.
        width_px: Width of the film.

    Raises:
        MediaError: The photo changed or does not decode.
    """
    scale = _plane_scale(camera, width_px)
    decoded = decode_photo(path, photo, largest_reduction=max(1.0, scale))
    return PhotoPlanes(_scaled_planes(decoded, scale / decoded.reduction), scale)


def _plane_scale(camera: CameraPath, width_px: int) -> float:
    start, end = ((view.x1 - view.x0) / width_px for view in (camera.start, camera.end))
    if camera.start == camera.end:
        return max(1.0, start)  # one to one: nothing moves
    scale = min(start, end) / OVERSAMPLING
    return scale if start == end > ENLARGED_PAN else max(1.0, scale)


def plane_maps(
    view: Rect, *, scale: float, width_px: int, height_px: int
) -> tuple[tuple[resample.AxisMap, resample.AxisMap], ...]:
    """Return, for Y, U and V, where each sample of a frame that shows `view` lies in the planes.

    Args:
        view: Px of the photo.
        scale: Px of the photo that one luma sample of the planes covers.
        width_px: Width of the frame.
        height_px: Height of the frame.
    """
    step_x = (view.x1 - view.x0) / (width_px * scale)
    step_y = (view.y1 - view.y0) / (height_px * scale)
    x0, y0 = view.x0 / scale, view.y0 / scale
    return tuple((_axis_map(x0, step_x, *across), _axis_map(y0, step_y, *down)) for across, down in PLANE_GRIDS)


def _axis_map(start: float, step: float, first: float, pitch: int) -> resample.AxisMap:
    return resample.AxisMap(origin=(start + first * step - first) / pitch, step=step)


def _scaled_planes(decoded: DecodedPhoto, step: float) -> tuple[BorderedPlane, BorderedPlane, BorderedPlane]:
    """Return Y, U and V, scaled down by `step`.

    A band of rows at a time, so that nothing of the photo's full size is held beside the photo itself.
    """
    rows, columns, _ = decoded.bgr.shape
    width, height = max(1, round(columns / step)), max(1, round(rows / step))
    luma = BorderedPlane.empty(height=height, width=width)
    blue, red = (BorderedPlane.empty(height=-(-height // 2), width=-(-width // 2)) for _ in range(2))
    # What the kernel of chroma, the wider one, reaches beyond its own sample.
    reach = math.ceil(4 * max(step, 1.0)) + 2
    for top in range(0, height, BAND_ROWS):
        bottom = min(top + BAND_ROWS, height)
        start, end = max(0, math.floor(top * step) - reach), min(rows, math.ceil((bottom + 1) * step) + reach)
        band = convert_to_bt709(decoded.bgr[start:end])
        halves = top // 2, -(-bottom // 2)
        _scale_into(luma.samples[top:bottom], band[0], step, _LUMA, _LUMA, first_row=(top, start))
        for scaled, source in ((blue, band[1]), (red, band[2])):
            out = scaled.samples[halves[0] : halves[1]]
            _scale_into(out, source, step, _CHROMA_ACROSS, _CHROMA_DOWN, first_row=(halves[0], start))
    for plane in (luma, blue, red):
        plane.repeat_edges()
    return luma, blue, red


def _scale_into(
    out: np.ndarray,
    source: BorderedPlane,
    step: float,
    across: tuple[float, int],
    down: tuple[float, int],
    *,
    first_row: tuple[int, int],
) -> None:
    """Fill rows of a plane from rows of the photo; `first_row` says which is the first of each."""
    height, width = out.shape
    resample.Resampler(height=height, width=width).resample(
        source,
        x=resample.AxisMap(origin=across[0] * step - 0.5, step=across[1] * step),
        y=resample.AxisMap(origin=(down[0] + down[1] * first_row[0]) * step - 0.5 - first_row[1], step=down[1] * step),
        out=out,
    )


def warm() -> None:
    """Compile what makes planes and frames, or load it from numba's cache, so that a fork finds it ready."""
    bt709.kernel()
    resample.warm()
