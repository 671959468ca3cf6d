"""Profiles that are three curves and a matrix, read for samples of more than 8 bits.

LittleCMS as Pillow offers it takes 8 bits a sample. Cameras, phones, screens and raw converters write such profiles;
those of scanners and presses hold tables of colours instead. Source: ICC.1:2022, 8.3.3, 8.4.3, 10.6, 10.18, 10.31.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fanreel.colour.curves import LIGHT_UNIT
from fanreel.colour.signals import ColourSignal, light_matrix, mixed

__all__ = ["MatrixProfile", "profile_signal", "read_matrix_profile"]

_COLOURS = ((b"rXYZ", b"gXYZ", b"bXYZ"), (b"rTRC", b"gTRC", b"bTRC"))
_TABLES = (b"A2B0", b"A2B1", b"D2B0", b"D2B1")  # where there is one, it counts

# sRGB's red, green and blue in XYZ of D50, one a column. Source: IEC 61966-2-1, amendment 1; ICC's own sRGB profile.
_SRGB_TO_XYZ = np.array(
    [
        [0.436065674, 0.385147095, 0.143081665],
        [0.222488403, 0.716873169, 0.060607910],
        [0.013916016, 0.097076416, 0.714096069],
    ]
)


@dataclass(frozen=True, slots=True)
class MatrixProfile:
    """Curves and a matrix.

    Attributes:
        curves: The light of each sample, one for red, green and blue, or one for grey; int32, units of white/65536.
        matrix: From there to light of sRGB's primaries, as `mixed` takes it.
    """

    curves: tuple[np.ndarray, ...]
    matrix: np.ndarray

    def light(self, planes: list[np.ndarray]) -> list[np.ndarray]:
        """Return the light of sRGB's primaries of samples by channels, red first."""
        planes = planes * len(self.curves) if len(planes) == 1 else planes
        return mixed([curve.take(plane) for curve, plane in zip(self.curves, planes, strict=True)], self.matrix)


@lru_cache(maxsize=4)
def read_matrix_profile(profile: bytes, *, bits: int) -> MatrixProfile | None:
    """Return a profile's curves for samples of so many bits, and its matrix; None if it is no such profile."""
    try:
        tags = _tags(profile)
        if any(name in tags for name in _TABLES):
            return None
        if b"kTRC" in tags:
            curves, matrix = [tags[b"kTRC"]], light_matrix(np.eye(3))
        else:
            columns, curves = ([tags[name] for name in names] for names in _COLOURS)
            to_xyz = np.array([struct.unpack_from(">3i", column, 8) for column in columns]).T / 65536
            matrix = light_matrix(np.linalg.solve(_SRGB_TO_XYZ, to_xyz))
        with np.errstate(all="ignore"):  # a damaged curve may end anywhere; it is clipped
            return MatrixProfile(tuple(_curve(content, bits) for content in curves), matrix)
    except (struct.error, LookupError, ValueError, ArithmeticError, np.linalg.LinAlgError):
        return None


def profile_signal(profile: bytes) -> ColourSignal | None:
    """Return the code points that a profile holds beside its curves, if it does. Source: ICC.1:2022, 9.2.17."""
    try:
        return ColourSignal(*_tags(profile)[b"cicp"][8:10])
    except (struct.error, LookupError, TypeError):
        return None


def _tags(profile: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", profile, 128)
    entries = [struct.unpack_from(">4sII", profile, 132 + 12 * index) for index in range(min(count, 256))]
    return {name: profile[start : start + size] for name, start, size in entries}


def _curve(content: bytes, bits: int) -> np.ndarray:
    """Return the light of each sample, (2^bits,) int32."""
    samples = np.arange(1 << bits) / ((1 << bits) - 1)
    if content[:4] == b"para":
        light = _parametric(samples, *struct.unpack_from(">H2x", content, 8), content)
    else:
        (count,) = struct.unpack_from(">I", content, 8)
        points = np.frombuffer(content, ">u2", count, 12)
        if content[:4] != b"curv":
            raise ValueError(content[:4])
        if count > 1:
            light = np.interp(samples * (count - 1), np.arange(count), points / 65535)
        else:
            light = samples ** (points[0] / 256 if count else 1)
    return np.round(np.clip(light, 0, 1) * LIGHT_UNIT).astype(np.int32)


def _parametric(samples: np.ndarray, kind: int, content: bytes) -> np.ndarray:
    """Return (a * x + b)^g + e from d on, and c * x + f below. Source: ICC.1:2022, table 68."""
    g, *terms = (term / 65536 for term in struct.unpack_from(f">{(1, 3, 4, 5, 7)[kind]}i", content, 12))
    if kind == 0:
        return samples**g
    if kind < 3:
        a, b, floor = (*terms, 0.0)[:3]
        terms = (a, b, 0.0, -b / a, floor, floor)
    a, b, c, d, e, f = (*terms, 0.0, 0.0)[:6]
    return np.where(samples >= d, np.maximum(a * samples + b, 0) ** g + e, c * samples + f)
