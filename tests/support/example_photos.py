"""The sample photos of `examples`, drawn in this process. No test lives here."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

EXAMPLES = Path(__file__).parents[2] / "examples"
MOUNTAIN, OLD_TOWN = 0, 7

__all__ = ["MOUNTAIN", "OLD_TOWN", "example_bgr"]


def example_bgr(index: int, *, scale: float) -> np.ndarray:
    """Return the pixels of a sample photo, (height, width, 3) uint8, blue first, at `scale` of its size."""
    if str(EXAMPLES) not in sys.path:
        sys.path.append(str(EXAMPLES))
    from draw_photos import draw_photo

    return cv2.imdecode(np.frombuffer(draw_photo(index, scale=scale), np.uint8), cv2.IMREAD_COLOR)
