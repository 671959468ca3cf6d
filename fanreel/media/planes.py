"""A photo's planes, prepared for a camera: BT.709 limited range, 4:2:0, transposed, at the size needed.

Everything from the decoded pixels on is integer arithmetic: swscale in its bit-exact mode converts the
colours, the project's own resampler changes the size. So the planes are the same on every CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation

from fanreel.media.photos import DecodedPhoto, decode_photo
from fanreel.media.resample import AxisMap, Resampler
from fanreel.plan.camera import CameraPath, Rect
from fanreel.plan.timeline import Photo

__all__ = ["PhotoPlanes", "plane_maps", "prepare_planes"]

# Where the first sample of a plane lies on the luma grid, in luma px from the left or top edge, and how
# many luma px lie between samples. Chroma is sited left and halfway down.
# Source: ITU-T H.264, E.2.1, chroma_sample_loc_type 0, the default that players assume.
_LUMA = (0.5, 1)
_CHROMA_ACROSS = (0.5, 2)
_CHROMA_DOWN = (1.0, 2)

_BIT_EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


@dataclass(frozen=True, slots=True)
class PhotoPlanes:
    """The planes of one photo.

    Attributes:
        transposed: Y, U and V, uint8, each stored (width, height).
        scale: Px of the photo that one luma sample covers.
    """

    transposed: tuple[np.ndarray, np.ndarray, np.ndarray]
    scale: float


def prepare_planes(path: Path, photo: Photo, camera: CameraPath, *, width_px: int) -> PhotoPlanes:
    """Return the planes of a photo, so large that the nearest view of `camera` is sampled one to one.

    Args:
        path: Where the photo's bytes are.
        photo: What was planned.
        camera: The move that will be made over it.
        width_px: Width of the film.

    Raises:
        MediaError: The photo changed or does not decode.
    """
    nearest = min(camera.start.x1 - camera.start.x0, camera.end.x1 - camera.end.x0) / width_px
    scale = max(1.0, nearest)
    decoded = decode_photo(path, photo, largest_reduction=scale)
    return PhotoPlanes(_scaled_planes(decoded, scale / decoded.reduction), scale)


def plane_maps(view: Rect, *, scale: float, width_px: int, height_px: int) -> tuple[tuple[AxisMap, AxisMap], ...]:
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
    luma = (_axis_map(x0, step_x, *_LUMA), _axis_map(y0, step_y, *_LUMA))
    chroma = (_axis_map(x0, step_x, *_CHROMA_ACROSS), _axis_map(y0, step_y, *_CHROMA_DOWN))
    return luma, chroma, chroma


def _axis_map(start: float, step: float, first: float, pitch: int) -> AxisMap:
    return AxisMap(origin=(start + first * step - first) / pitch, step=step)


def _scaled_planes(decoded: DecodedPhoto, step: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    full = _yuv444(decoded.bgr)
    rows, columns = full[0].shape
    width, height = max(1, round(columns / step)), max(1, round(rows / step))
    luma = full[0].T if step == 1.0 else _shrunk(full[0], (width, height), step, _LUMA, _LUMA)
    half = (-(-width // 2), -(-height // 2))
    chroma = [_shrunk(plane, half, step, _CHROMA_ACROSS, _CHROMA_DOWN) for plane in full[1:]]
    return np.ascontiguousarray(luma), chroma[0], chroma[1]


def _yuv444(bgr: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # Full-size chroma: swscale would site halved chroma in the middle, not left (measured: 0.5 px off).
    frame = av.VideoFrame.from_ndarray(bgr, format="bgr24").reformat(
        format="yuv444p",
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        dst_colorspace=Colorspace.ITU709,
        interpolation=_BIT_EXACT,
        threads=1,
    )
    planes = [np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size) for plane in frame.planes]  # type: ignore[arg-type]
    y, u, v = (np.ascontiguousarray(plane[:, : frame.width]) for plane in planes)
    return y, u, v


def _shrunk(
    plane: np.ndarray,
    size: tuple[int, int],
    step: float,
    across: tuple[float, int],
    down: tuple[float, int],
) -> np.ndarray:
    """Return a full-resolution plane shrunk to (width, height), transposed.

    The resampler takes a transposed source and gives an upright picture; given the upright plane, with
    the axes exchanged, it gives the transposed one.
    """
    width, height = size
    out = np.empty((width, height), np.uint8)
    Resampler(height=width, width=height).resample(
        plane,
        x=AxisMap(origin=down[0] * step - 0.5, step=down[1] * step),
        y=AxisMap(origin=across[0] * step - 0.5, step=across[1] * step),
        out=out,
    )
    return out
