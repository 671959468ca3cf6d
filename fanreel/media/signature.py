"""Signatures of frames: small enough to keep for every frame, telling enough to prove a film.

A *thumbnail* shows what was fed to the encoder at a few keyframes. A *fingerprint* of 20 bytes is kept for
every frame: brightness in a 4 x 4 grid, mean colour, and how much moved since the frame before. All
tolerances between what was fed and what decodes stand here.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

__all__ = [
    "FINGERPRINT_BYTES",
    "Fingerprinter",
    "fingerprint_difference",
    "frozen_frames",
    "make_thumbnail",
    "thumbnail_difference",
]

THUMBNAIL_PX = (32, 18)
GRID = 4
FINGERPRINT_BYTES = GRID * GRID + 4
MOTION_UNIT = 1 / 64
"""Resolution of the motion value, in luma levels."""

STRIDE = 4
"""Every fourth sample of each fourth row is looked at: 130,000 of a 1080p frame, 0.1 ms."""

LARGEST_THUMBNAIL_DIFFERENCE = 6.0
"""Mean difference in luma levels. x264 at quality 51 stays under 3 on the sample photos; another photo is over 20."""

LARGEST_GRID_DIFFERENCE = 8.0
"""Largest difference of one grid cell's brightness or of a mean colour, in levels."""

FROZEN_WINDOW_FRAMES = 8
FROZEN_SHARE = 0.2
SMALLEST_MOTION = 0.5
"""A window with less motion fed than this (levels a frame) is too still to be called frozen."""


def make_thumbnail(luma: np.ndarray) -> bytes:
    """Return the luma plane, (height, width) uint8, shrunk to 32 x 18."""
    return cv2.resize(luma, THUMBNAIL_PX, interpolation=cv2.INTER_AREA).tobytes()


def thumbnail_difference(fed: bytes, luma: np.ndarray) -> float | None:
    """Return by how many levels a decoded frame differs from what was fed, or None if it is the same frame.

    Args:
        fed: The thumbnail kept when the frame was encoded.
        luma: The decoded luma plane.
    """
    seen = np.frombuffer(make_thumbnail(luma), np.uint8).astype(np.int16)
    difference = float(np.abs(seen - np.frombuffer(fed, np.uint8)).mean())
    return difference if difference > LARGEST_THUMBNAIL_DIFFERENCE else None


class Fingerprinter:
    """Makes the fingerprints of consecutive frames."""

    def __init__(self) -> None:
        self._before: np.ndarray | None = None

    def add(self, planes: Sequence[np.ndarray]) -> bytes:
        """Return the fingerprint of the next frame.

        Args:
            planes: Y, U and V, uint8.
        """
        luma, u, v = planes
        sampled = np.ascontiguousarray(luma[::STRIDE, ::STRIDE])
        grid = cv2.resize(sampled, (GRID, GRID), interpolation=cv2.INTER_AREA)
        moved = 0.0 if self._before is None else float(cv2.absdiff(sampled, self._before).mean())
        self._before = sampled
        colours = bytes(round(float(plane[::STRIDE, ::STRIDE].mean())) for plane in (u, v))
        return grid.tobytes() + colours + min(65535, round(moved / MOTION_UNIT)).to_bytes(2, "big")


def fingerprint_difference(fed: bytes, seen: bytes) -> float | None:
    """Return the largest difference of brightness or colour, in levels, or None if it is the same frame."""
    values = [np.frombuffer(data[:-2], np.uint8).astype(np.int16) for data in (fed, seen)]
    difference = float(np.abs(values[0] - values[1]).max())
    return difference if difference > LARGEST_GRID_DIFFERENCE else None


def frozen_frames(fed: Sequence[bytes], seen: Sequence[bytes]) -> int | None:
    """Return the first frame of a stretch that stands still though what was fed moved, or None.

    Args:
        fed: Fingerprints of consecutive frames as fed.
        seen: Fingerprints of the same frames as decoded.
    """
    motion = [np.array([int.from_bytes(data[-2:], "big") for data in side]) * MOTION_UNIT for side in (fed, seen)]
    if len(fed) <= FROZEN_WINDOW_FRAMES:
        return None
    window = np.ones(FROZEN_WINDOW_FRAMES) / FROZEN_WINDOW_FRAMES
    # The first frame's motion is against another segment's last frame, or unknown.
    sums = [np.convolve(side[1:], window, "valid") for side in motion]
    frozen = np.flatnonzero((sums[0] > SMALLEST_MOTION) & (sums[1] < FROZEN_SHARE * sums[0]))
    return int(frozen[0]) + 1 if frozen.size else None
