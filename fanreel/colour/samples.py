"""Samples of any depth and meaning to sRGB of 8 bits: in linear light where need be, and dithered.

All arithmetic is on whole units or is one rounded operation at a time, so that every CPU gives the same codes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fanreel.colour.curves import LIGHT_UNIT, encode_light, hlg_gains, light_table, plain_codes
from fanreel.colour.dither import dither_codes, rounding_pattern
from fanreel.colour.matrix_profiles import read_matrix_profile
from fanreel.colour.profiles import changes_colours, convert_rows
from fanreel.colour.signals import HLG, ColourSignal, mixed, primaries_matrix
from fanreel.colour.tone_mapping import find_peak, roll_off

__all__ = ["convert_samples", "highlights_peak"]

_ROWS = 32  # at a time: what is computed of them stays in the CPU's cache
_LUMA_UNIT = 10_000
_BT2020_LUMA = (2627, 6780, 593)  # Source: BT.2100, table 5


def convert_samples(
    samples: np.ndarray,
    *,
    bits: int,
    top: int = 0,
    profile: bytes | None = None,
    signal: ColourSignal | None = None,
    peak: float | None = None,
) -> np.ndarray:
    """Return samples in sRGB, (height, width, 3) uint8 BGR.

    A signal of more light than white is followed before a profile, and a profile before any other signal.

    Args:
        samples: (height, width, 3) uint8 or uint16 in the order BGR, or (height, width, 1) grey.
        bits: Of each sample.
        top: Which row of the picture the first one is.
        profile: ICC; one that is damaged, or for another kind of colours, is ignored.
        signal: The file's code points.
        peak: What `highlights_peak` says of the picture, if these are not all of its samples.
    """
    mode = "L" if samples.shape[2] == 1 else "RGB"
    if signal is not None and signal.is_hdr:
        peak = highlights_peak(samples, bits=bits, signal=signal) if peak is None else peak
        return _dithered(samples, top, lambda planes: _codes(roll_off(_light(planes, signal, bits), peak=peak)))
    if profile is not None and changes_colours(profile, mode=mode):
        matrix = read_matrix_profile(profile, bits=bits)
        if matrix is not None:
            return _dithered(samples, top, lambda planes: _codes(matrix.light(planes)))
        # A profile of tables: LittleCMS takes 8 bits, so the samples are dithered before.
        bgr = _dithered(samples, top, lambda planes: _plain(planes, bits))
        convert_rows(bgr, profile, mode=mode)
        return bgr
    if signal is None or signal.is_srgb or profile is not None:
        if bits == 8:
            return samples.repeat(3, axis=2) if mode == "L" else samples
        return _dithered(samples, top, lambda planes: _plain(planes, bits))
    return _dithered(samples, top, lambda planes: _codes(_light(planes, signal, bits)))


def highlights_peak(samples: np.ndarray, *, bits: int, signal: ColourSignal) -> float:
    """Return which light of a picture with light beyond white becomes white, in whites.

    Args:
        samples: Some of the picture's, or all.
        bits: Of each sample.
        signal: The file's code points.
    """
    return find_peak(_light(_planes(samples), signal, bits))


def _plain(planes: list[np.ndarray], bits: int) -> list[np.ndarray]:
    return [plain_codes(bits).take(plane) for plane in planes]


def _codes(light: list[np.ndarray]) -> list[np.ndarray]:
    return [encode_light(channel) for channel in light]


def _light(planes: list[np.ndarray], signal: ColourSignal, bits: int) -> list[np.ndarray]:
    """Return the light of sRGB's primaries, by channels, in units of white/65536."""
    table = light_table(signal.transfer, bits)
    light = [table.take(plane) for plane in planes]
    if signal.transfer == HLG:
        # What the screen adds depends on the luminance of the scene, so that hues stay.
        red, green, blue = light if len(light) == 3 else light * 3
        parts = _BT2020_LUMA
        gains = hlg_gains().take((red * parts[0] + green * parts[1] + blue * parts[2]) // _LUMA_UNIT)
        light = [plane * gains // LIGHT_UNIT for plane in light]
    return mixed(light, primaries_matrix(signal.primaries))


def _dithered(samples: np.ndarray, top: int, codes_of: Callable[[list[np.ndarray]], list[np.ndarray]]) -> np.ndarray:
    """Return (height, width, 3) uint8 BGR of what `codes_of` makes of some rows' channels: codes in units of 1/256."""
    height, width, _ = samples.shape
    bgr = np.empty((height, width, 3), np.uint8)
    for start in range(0, height, _ROWS):
        stop = min(height, start + _ROWS)
        pattern = rounding_pattern(range(top + start, top + stop), width)
        codes = codes_of(_planes(samples[start:stop]))
        for channel in range(3):
            bgr[start:stop, :, 2 - channel] = dither_codes(codes[channel % len(codes)], pattern)
    return bgr


def _planes(samples: np.ndarray) -> list[np.ndarray]:
    """Return the channels apart, red first."""
    return [samples[:, :, channel] for channel in reversed(range(samples.shape[2]))]
