"""From finer codes to 8 bits: a fixed pattern decides which way each pixel is rounded, so that no bands are seen.

The mean of a surface stays what it was, and a code that needs no rounding stays as it is.
"""

from __future__ import annotations

import numpy as np

__all__ = ["dither_codes", "rounding_pattern"]

# A picture's row and column each add a fixed part of the range: 1/g and 1/g^2 of 2^32, g^3 = g + 1.
# Source: M. Roberts, "The unreasonable effectiveness of quasirandom sequences" (2018), R2.
_COLUMN_STEP, _ROW_STEP = 3242174889, 2447445414


def rounding_pattern(rows: range, width: int) -> np.ndarray:
    """Return what to add to a code before its fraction is cut off: (rows, width) uint16 below 256.

    Args:
        rows: Which rows of the picture.
        width: In px.
    """
    across = np.arange(width, dtype=np.uint64) * _COLUMN_STEP
    down = np.array(rows, dtype=np.uint64) * _ROW_STEP
    places = (down[:, None] + across).astype(np.uint32)  # modulo 2^32
    return (places >> np.uint32(24)).astype(np.uint16)


def dither_codes(codes: np.ndarray, pattern: np.ndarray) -> np.ndarray:
    """Return uint16 codes in units of 1/256, at most 255 * 256, as uint8."""
    return ((codes + pattern) >> np.uint16(8)).astype(np.uint8)
