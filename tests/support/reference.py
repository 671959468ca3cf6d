"""What a frame should be: made in float64 and in one step from the pixels of the photo. No test lives here.

Written apart from the engine: its own colour conversion, kernel and siting, and nothing prepared beforehand.
"""

from __future__ import annotations

import numpy as np

from fanreel.plan.camera import Rect

__all__ = ["bt709", "catmull_rom", "frame_of", "overshoots", "psnr_db", "resampled", "sampling_matrix"]

# Where the first sample of a plane lies, in luma px from the left and upper edge, and the luma px between samples.
# Source: ITU-T H.264, figure E-1, chroma_sample_loc_type 0.
_LUMA = ((0.5, 0.5), 1)
_CHROMA = ((0.5, 1.0), 2)


def bt709(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Y, Cb and Cr, float64, limited range, not rounded, of 8-bit colours (..., 3).

    Source: ITU-R BT.709-6, items 3.2 to 3.5.
    """
    red, green, blue = np.moveaxis(rgb.astype(np.float64) / 255, -1, 0)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return 16 + 219 * luma, 128 + 224 * (blue - luma) / 1.8556, 128 + 224 * (red - luma) / 1.5748


def catmull_rom(distance: np.ndarray) -> np.ndarray:
    """Return the kernel's weight at each distance."""
    x = np.abs(distance)
    return np.where(x < 1, (1.5 * x - 2.5) * x * x + 1, np.where(x < 2, ((2.5 - 0.5 * x) * x - 4) * x + 2, 0.0))


def sampling_matrix(positions: np.ndarray, size: int, *, width: float) -> np.ndarray:
    """Return the weights, (outputs, size), with which samples at 0, 1, ... make those at `positions`.

    Args:
        positions: In samples of the source; past its edges the edge sample is read.
        size: Samples of the source.
        width: How many times as wide as Catmull-Rom the kernel is.
    """
    reach = int(np.ceil(2 * width))
    matrix = np.zeros((len(positions), size))
    first = np.floor(positions).astype(int)
    for offset in range(1 - reach, reach + 1):
        weights = catmull_rom((first + offset - positions) / width)
        np.add.at(matrix, (np.arange(len(positions)), np.clip(first + offset, 0, size - 1)), weights)
    return matrix / matrix.sum(axis=1, keepdims=True)


def resampled(
    plane: np.ndarray,
    view: Rect,
    size: tuple[int, int],
    *,
    first: tuple[float, float] = (0.5, 0.5),
    pitch: int = 1,
    widest: float = np.inf,
) -> np.ndarray:
    """Return a plane as `view` shows it, float64, not clipped.

    Args:
        plane: (height, width) of the photo.
        view: In px of the plane.
        size: Width and height of the frame's luma.
        first: Where the first sample lies, across and down, in luma px.
        pitch: Luma px from sample to sample.
        widest: The kernel is widened by the step, but no more than this.
    """
    steps = ((view.x1 - view.x0) / size[0], (view.y1 - view.y0) / size[1])
    across, down = (
        sampling_matrix(
            start + (place + pitch * np.arange(-(-count // pitch))) * step - 0.5,
            length,
            width=min(max(1.0, pitch * step), widest),
        )
        for start, place, count, step, length in zip(
            (view.x0, view.y0), first, size, steps, reversed(plane.shape), strict=True
        )
    )
    return down @ plane @ across.T


def frame_of(rgb: np.ndarray, view: Rect, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Y, Cb and Cr of the frame that shows `view` of a photo, float64, not rounded, not clipped."""
    luma, blue, red = bt709(rgb)
    (first, pitch), (chroma_first, chroma_pitch) = _LUMA, _CHROMA
    y = resampled(luma, view, size, first=first, pitch=pitch)
    cb, cr = (resampled(plane, view, size, first=chroma_first, pitch=chroma_pitch) for plane in (blue, red))
    return y, cb, cr


def overshoots(exact: np.ndarray, *, margin: float = 2.0) -> np.ndarray:
    """Return where a value of `frame_of` is out of the range of 8 bits, or within `margin` of leaving it."""
    return (exact < margin) | (exact > 255 - margin)


def psnr_db(error: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of an error on the scale of 8 bits."""
    return float(10 * np.log10(255**2 / max(np.mean(np.square(error, dtype=np.float64)), 1e-12)))
