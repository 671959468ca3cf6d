"""Curves between samples and light, as tables of whole numbers.

A power is not rounded the same on every CPU. The tables keep whole units, and no entry lies so near to the middle
between two that it matters (tests/colour/test_curves.py).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fanreel.colour.signals import GAMMAS, HLG, LINEAR, PQ

__all__ = ["CODE_UNIT", "LIGHT_UNIT", "WHITE_NITS", "encode_light", "hlg_gains", "light_table", "plain_codes"]

WHITE_NITS = 203
"""What SDR's white is in HDR, in cd/m2. Source: ITU-R BT.2408, 2.2: 58 % of PQ, and 75 % of HLG."""

HLG_PEAK_NITS = 1000
_HLG_GAMMA = 1.2  # for that peak. Source: ITU-R BT.2100, table 5

LIGHT_UNIT = 1 << 16
"""Light is in whole numbers of 1/65536 of white."""

CODE_UNIT = 1 << 8
"""Codes of sRGB are in whole numbers of 1/256, before they are dithered."""


@lru_cache(maxsize=16)
def light_table(transfer: int, bits: int) -> np.ndarray:
    """Return the light of each sample, (2^bits,) in units of white/65536; of HLG that of the scene, to its peak.

    It is int64 where there is light beyond white, else int32.
    """
    light = np.round(_light(np.arange(1 << bits) / ((1 << bits) - 1), transfer) * LIGHT_UNIT)
    return light.astype(np.int64 if transfer in (PQ, HLG) else np.int32)


def _light(samples: np.ndarray, transfer: int) -> np.ndarray:
    if transfer == PQ:  # Source: BT.2100, table 4
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        power = samples ** (1 / m2)
        return (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1) * (10_000 / WHITE_NITS)
    if transfer == HLG:  # Source: BT.2100, table 5
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        return np.where(samples <= 0.5, samples**2 / 3, (np.exp((samples - c) / a) + b) / 12)
    if transfer in GAMMAS:
        return samples ** GAMMAS[transfer]
    if transfer == LINEAR:
        return samples
    return np.where(samples <= 0.04045, samples / 12.92, ((samples + 0.055) / 1.055) ** 2.4)  # IEC 61966-2-1


@lru_cache(maxsize=1)
def hlg_gains() -> np.ndarray:
    """Return what a screen of 1000 cd/m2 makes of a scene's luminance 0 to 65536: (65537,) int64, units of 1/65536.

    Source: BT.2100, table 5, the OOTF.
    """
    gains = (np.arange(LIGHT_UNIT + 1) / LIGHT_UNIT) ** (_HLG_GAMMA - 1) * (HLG_PEAK_NITS / WHITE_NITS)
    return np.round(gains * LIGHT_UNIT).astype(np.int64)


@lru_cache(maxsize=1)
def _srgb_codes() -> np.ndarray:
    light = np.arange(LIGHT_UNIT + 1) / LIGHT_UNIT
    codes = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(codes * 255 * CODE_UNIT).astype(np.uint16)


def encode_light(light: np.ndarray) -> np.ndarray:
    """Return the codes of sRGB, uint16 in units of 1/256, of light in units of white/65536; others are clipped."""
    return _srgb_codes().take(np.clip(light, 0, LIGHT_UNIT))


@lru_cache(maxsize=4)
def plain_codes(bits: int) -> np.ndarray:
    """Return the codes of sRGB, uint16 in units of 1/256, of each sample of a picture that is in sRGB."""
    most = (1 << bits) - 1
    return ((np.arange(1 << bits, dtype=np.int64) * 255 * CODE_UNIT * 2 + most) // (2 * most)).astype(np.uint16)
