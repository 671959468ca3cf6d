"""Signatures of frames: small enough to keep for every frame, and enough to verify a film by.

A *thumbnail* shows what was fed to the encoder at a few keyframes. A *fingerprint* of 20 bytes is kept for
every frame: brightness in a 4 x 4 grid, mean colour, and how far the picture has moved in the last twelve
frames. All tolerances between what was fed and what decodes stand here.

They grow with the quality asked for, because what the encoder loses does. Measured with x264 draft, fast and
balanced on photos, noise, gradients, dark pictures, text and a checkerboard of 3 px, from 64x64 to 640x360,
zoomed and panned slowly and fast (196 films a quality; the worst frame of all, in levels):

=============================================  ====  ====  ====  ====  ====  ====  ====
quality                                           0    14    21    28    35    42    51
=============================================  ====  ====  ====  ====  ====  ====  ====
thumbnail, mean of 8 x 6 cells: honest, at most  0.7   1.5   2.4   3.9   5.8  10.1  11.6
tolerated                                        1.2   2.7   4.0   6.0   9.0  13.5  22.6
fingerprint, worst cell: honest, at most         1     2     3     4     6    17    23
tolerated                                        1.8   4.0   6.0   9.0  13.5  20.2  33.9
motion lost by an honest encoder, at most        0.5   0.5   0.4   1.2   1.8    14    22
motion above which a film can be called frozen   1.5   1.5   1.5   3.6   8.8    21    66
=============================================  ====  ====  ====  ====  ====  ====  ====

Two photos differ by 11 to 20 levels of thumbnail, black from a photo by about 100, from a very dark one by 12.
So a wrong photo shows up to quality 35, black instead of a photo at any quality, and a frozen stretch up to
about quality 35; beyond that an encoder loses as much by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import cv2
import numpy as np

__all__ = [
    "FINGERPRINT_BYTES",
    "THUMBNAIL_BYTES",
    "Fingerprinter",
    "fingerprint_difference",
    "frozen_frames",
    "make_thumbnail",
    "thumbnail_difference",
]

THUMBNAIL_PX = (32, 18)
THUMBNAIL_BYTES = 32 * 18
CELLS = (6, 3, 8, 4)
"""Thumbnails are compared in 6 x 8 cells of 3 x 4: coarser than the blocks that an encoder flattens."""

GRID = 4
FINGERPRINT_BYTES = GRID * GRID + 4
MOTION_UNIT = 1 / 64
"""Resolution of the motion value, in luma levels."""

HALVE_FROM_PX = 256
"""Planes this wide are halved first: 0.3 ms instead of 0.9 for 1080p, and as exact."""

REFERENCE_QUALITY = 21
"""The quality at which the next three bounds hold, in luma levels."""

LARGEST_THUMBNAIL_DIFFERENCE = 4.0
LARGEST_CELL_DIFFERENCE = 6.0
SMALLEST_MOTION = 1.5

DIFFERENCE_DOUBLES_EVERY = 12
MOTION_DOUBLES_EVERY = 5.5

FROZEN_WINDOW_FRAMES = 12
FROZEN_SHARE = 0.15
"""An encoder fed one picture over and over still moves 0.2 levels while it refines it (draft, quality 21)."""


def make_thumbnail(luma: np.ndarray) -> bytes:
    """Return the luma plane, (height, width) uint8, shrunk to 32 x 18 by area, as bytes."""
    while luma.shape[1] >= HALVE_FROM_PX and luma.shape[0] % 2 == luma.shape[1] % 2 == 0:
        luma = cv2.resize(luma, (luma.shape[1] // 2, luma.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return cv2.resize(luma, THUMBNAIL_PX, interpolation=cv2.INTER_AREA).tobytes()


def thumbnail_difference(fed: bytes, luma: np.ndarray, *, quality: int) -> float | None:
    """Return by how many luma levels a decoded frame differs from what was fed, or None if it shows the same.

    Args:
        fed: The thumbnail kept when the frame was encoded.
        luma: The decoded luma plane, (height, width) uint8.
        quality: What the encoder was asked for, 0 to 51.
    """
    cells = [_thumbnail(data).reshape(CELLS).mean((1, 3)) for data in (fed, make_thumbnail(luma))]
    difference = float(np.abs(cells[0] - cells[1]).mean())
    return difference if difference > LARGEST_THUMBNAIL_DIFFERENCE * _growth(quality) else None


class Fingerprinter:
    """Makes the fingerprints of consecutive frames of one segment."""

    def __init__(self) -> None:
        self._before: deque[np.ndarray] = deque(maxlen=FROZEN_WINDOW_FRAMES)

    def add(self, planes: Sequence[np.ndarray]) -> bytes:
        """Return the fingerprint of the next frame.

        Args:
            planes: Y, U and V, each (height, width) uint8.
        """
        luma, u, v = planes
        thumbnail = _thumbnail(make_thumbnail(luma))
        moved = float(np.abs(thumbnail - self._before[0]).mean()) if self._before else 0.0
        self._before.append(thumbnail)
        upright = thumbnail.reshape(THUMBNAIL_PX[::-1]).astype(np.uint8)
        grid = cv2.resize(upright, (GRID, GRID), interpolation=cv2.INTER_AREA)
        colours = bytes(round(cv2.mean(plane)[0]) for plane in (u, v))
        return grid.tobytes() + colours + min(65535, round(moved / MOTION_UNIT)).to_bytes(2, "big")


def fingerprint_difference(fed: bytes, seen: bytes, *, quality: int) -> float | None:
    """Return the largest difference of brightness or colour, in levels, or None if both show the same frame.

    Args:
        fed: Fingerprint of the frame as fed.
        seen: Fingerprint of the frame as decoded.
        quality: What the encoder was asked for, 0 to 51.
    """
    values = [_thumbnail(data[:-2]) for data in (fed, seen)]
    difference = float(np.abs(values[0] - values[1]).max())
    return difference if difference > LARGEST_CELL_DIFFERENCE * _growth(quality) else None


def frozen_frames(fed: Sequence[bytes], seen: Sequence[bytes], *, quality: int) -> int | None:
    """Return the first frame of a stretch that stands still although the frames fed moved, or None.

    Args:
        fed: Fingerprints of a segment's frames as fed.
        seen: Fingerprints of the same frames as decoded.
        quality: What the encoder was asked for, 0 to 51.
    """
    # The first frames have no frame a whole window before them to be compared with.
    moved, shown = (
        np.array([int.from_bytes(data[-2:], "big") for data in side[FROZEN_WINDOW_FRAMES:]]) * MOTION_UNIT
        for side in (fed, seen)
    )
    growth = 2 ** (max(0, quality - REFERENCE_QUALITY) / MOTION_DOUBLES_EVERY)
    frozen = np.flatnonzero((moved > SMALLEST_MOTION * growth) & (shown < FROZEN_SHARE * moved))
    return int(frozen[0]) if frozen.size else None


def _thumbnail(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8).astype(np.int16)


def _growth(quality: int) -> float:
    return 2 ** ((quality - REFERENCE_QUALITY) / DIFFERENCE_DOUBLES_EVERY)
