"""What a file says of its colours in code points, as video does: primaries, and the curve of its samples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

__all__ = ["GAMMAS", "HLG", "LINEAR", "PQ", "SRGB", "ColourSignal", "light_matrix", "mixed", "primaries_matrix"]

PQ, HLG, LINEAR = 16, 18, 8
"""Curves of ITU-T H.273, table 3: SMPTE ST 2084, ARIB STD-B67, and none."""

GAMMAS = {4: 2.2, 5: 2.8}
"""Curves of H.273 that are a power."""

# xy of red, green and blue; all with the white D65. Source: H.273, table 2; SMPTE EG 432-1.
_REC709 = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
_PRIMARIES = {
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
_D65 = (0.3127, 0.3290)

_MATRIX_SHIFT = 13
_MATRIX_UNIT = 1 << _MATRIX_SHIFT
_LARGEST_PARTS = 3  # of white: so that sums of products with light of at most white fit into 32 bits


@dataclass(frozen=True, slots=True)
class ColourSignal:
    """Code points of ITU-T H.273, as cICP in PNG and nclx in HEIF and AVIF have them.

    Attributes:
        primaries: Those of BT.2020 and P3 are known. All others are taken for BT.709's, which are sRGB's.
        transfer: PQ, HLG, powers and linear light are known. All others are taken for sRGB's: BT.709, BT.601 and
            BT.2020 are made for the same screens, and files say them of sRGB pictures.
    """

    primaries: int
    transfer: int

    @property
    def is_hdr(self) -> bool:
        """Whether its samples may say more light than the white of a page."""
        return self.transfer in (PQ, HLG)

    @property
    def is_srgb(self) -> bool:
        """Whether its samples are those of sRGB."""
        return self.primaries not in _PRIMARIES and self.transfer not in (PQ, HLG, LINEAR, *GAMMAS)


SRGB = ColourSignal(1, 13)


@lru_cache
def primaries_matrix(primaries: int) -> np.ndarray:
    """Return what `mixed` takes to make light of sRGB's primaries from light of these."""
    return light_matrix(np.linalg.solve(_to_xyz(_REC709), _to_xyz(_PRIMARIES.get(primaries, _REC709))))


def light_matrix(matrix: np.ndarray) -> np.ndarray:
    """Return a (3, 3) matrix in whole units, int32, whose rows have the sum 1: grey stays grey to the last bit.

    Raises:
        ValueError: Its colours are so far from sRGB's that they cannot be meant.
    """
    units = np.round(matrix * _MATRIX_UNIT)
    units[np.arange(3), np.abs(units).argmax(axis=1)] += _MATRIX_UNIT - units.sum(axis=1)
    if not (np.abs(units).sum(axis=1) <= (2 * _LARGEST_PARTS - 1) * _MATRIX_UNIT).all():
        raise ValueError("primaries far from sRGB's")
    return units.astype(np.int32)


def mixed(light: list[np.ndarray], matrix: np.ndarray) -> list[np.ndarray]:
    """Return light of other primaries by channels; of a single channel, which is grey, the same.

    Args:
        light: int32 in units of white/65536, at most white; or int64.
        matrix: Made by `light_matrix`.
    """
    if len(light) == 1:
        return light
    mixes = []
    for row in matrix:
        mix = light[0] * row[0]
        mix += light[1] * row[1]
        mix += light[2] * row[2]
        mix >>= _MATRIX_SHIFT
        mixes.append(mix)
    return mixes


def _to_xyz(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    columns = np.array([(x / y, 1.0, (1 - x - y) / y) for x, y in primaries]).T
    x, y = _D65
    return columns * np.linalg.solve(columns, np.array([x / y, 1.0, (1 - x - y) / y]))
