"""What draws one layer, and how a layer is laid over those below it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fanreel.plan.timeline import FULL_OPACITY, Layer

__all__ = ["BLACK", "Drawing", "Planes", "blend_planes", "fill_planes"]

Planes = Sequence[np.ndarray]
"""Y, U and V of a frame, uint8: (height, width) and twice (height/2, width/2); rows may be padded."""

Drawing = Callable[[Layer, Planes], None]
"""A content that is ready: fills planes with what a layer of it shows. The layer's opacity is not its concern."""

BLACK = (16, 128, 128)
"""Y, U and V of black, limited range: what lies below the lowest layer."""


def fill_planes(planes: Planes, samples: Sequence[int]) -> None:
    """Fill Y, U and V with one sample each."""
    for plane, sample in zip(planes, samples, strict=True):
        plane.fill(sample)


def blend_planes(below: Planes, above: Planes, *, opacity: int) -> None:
    """Lay a picture over another one: `below` becomes `(below * (256 - opacity) + above * opacity + 128) >> 8`.

    Args:
        below: Planes that are changed.
        above: Planes of the same shapes.
        opacity: Of `above`, from 0 to `FULL_OPACITY`.
    """
    # 255 * 256 + 128 fits: nothing overflows.
    over, under = np.uint16(opacity), np.uint16(FULL_OPACITY - opacity)
    for plane, other in zip(below, above, strict=True):
        plane[:] = (plane * under + other * over + np.uint16(FULL_OPACITY // 2)) >> np.uint16(8)
