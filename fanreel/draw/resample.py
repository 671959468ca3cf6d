"""Scales and moves one plane of samples: the per-frame work of a Ken Burns move.

A move is scale + translation, so it is separable. Each source row is scaled across once, by shuffles that pick
neighbouring bytes; an output row is a weighted sum of the few such rows that are kept in a ring. Nothing else is
stored between source and output. `make bench` compares its speed with that of `cv2.warpAffine`.

The kernel is bicubic (Catmull-Rom). Where the source is the larger side it is widened by the step, so that nothing
aliases. Samples and weights are integers; weights are rounded from floats that are never contracted (no fused
multiply-add). So the bytes depend on source, maps and output size only, on every CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fanreel.draw.resample_blocks import SCALED
from fanreel.draw.resample_kernels import BORDER, TAP_COUNTS, kernel

__all__ = ["AxisMap", "BorderedPlane", "Resampler", "warm"]


@dataclass(frozen=True, slots=True)
class AxisMap:
    """Where output samples read the source, along one axis.

    Output sample j reads index `origin + step * j`. Sample centres lie at integers, and positions outside
    the source read its edge sample.

    Args:
        origin: Source position of output sample 0, in source samples.
        step: Source samples per output sample, above 0; above 1 where the source is the larger side.

    Raises:
        ValueError: A number is not finite, or the step is not above 0.
    """

    origin: float
    step: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.origin) and 0 < self.step < math.inf):
            raise ValueError(f"{self} is no map: origin and step must be finite, and step above 0")

    def starting_at(self, sample: int) -> AxisMap:
        """Return the map of which output sample 0 is this one's `sample`."""
        return AxisMap(self.origin + self.step * sample, self.step)


@dataclass(frozen=True, slots=True)
class BorderedPlane:
    """A plane of samples whose edge columns are repeated to either side, where taps may reach.

    Attributes:
        bordered: uint8, (height, `BORDER` + width + `BORDER`), C-contiguous.
    """

    bordered: np.ndarray

    @classmethod
    def empty(cls, *, height: int, width: int) -> BorderedPlane:
        """Return a plane to be filled; `repeat_edges` then makes it whole."""
        return cls(np.empty((height, width + 2 * BORDER), np.uint8))

    @classmethod
    def copy_of(cls, samples: np.ndarray) -> BorderedPlane:
        """Return a copy of uint8 (height, width)."""
        plane = cls.empty(height=samples.shape[0], width=samples.shape[1])
        plane.samples[:] = samples
        plane.repeat_edges()
        return plane

    @property
    def samples(self) -> np.ndarray:
        """The plane without its borders: uint8, (height, width), a view."""
        return self.bordered[:, BORDER:-BORDER]

    def repeat_edges(self) -> None:
        """Fill the borders from the samples."""
        self.bordered[:, :BORDER] = self.samples[:, :1]
        self.bordered[:, -BORDER:] = self.samples[:, -1:]


class Resampler:
    """Resamples planes to one output size, with scratch memory that is kept from frame to frame.

    The bytes of a result do not depend on what was resampled before. Not safe for use by two threads at
    once; each call lets other threads run.

    Args:
        height: Rows of the output.
        width: Columns of the output.
    """

    def __init__(self, *, height: int, width: int) -> None:
        self._shape = (height, width)
        self._taps = 0
        self._followed: tuple[AxisMap, AxisMap, tuple[int, int]] | None = None

    def resample(self, source: BorderedPlane, *, x: AxisMap, y: AxisMap, out: np.ndarray) -> None:
        """Fill `out` with the source as the maps show it.

        Args:
            source: Of any size but none.
            x: Where output columns lie along the source's columns.
            y: Where output rows lie along the source's rows.
            out: uint8, (height, width); neighbours in a row are adjacent, rows may be padded.

        Raises:
            ValueError: An array is not as described.
        """
        if out.shape != self._shape or out.dtype != np.uint8 or out.strides[1] != 1:
            raise ValueError(f"out is {out.dtype} {out.shape} {out.strides}, not uint8 {self._shape} with dense rows")
        rows = source.bordered
        if rows.dtype != np.uint8 or rows.ndim != 2 or not rows.flags.c_contiguous or not source.samples.size:
            raise ValueError(f"the source is {rows.dtype} {rows.shape}, not a dense plane of uint8 with borders")
        # A step that rounding left just above 1 needs the taps of 1: more would have no weight.
        taps = 2 * math.ceil(2 * max(x.step, y.step, 1.0) - 1e-6)
        self._reserve(next((count for count in TAP_COUNTS if count >= taps), taps))
        follows = (x, y, source.samples.shape)
        maps = (x.origin, x.step, y.origin, y.step)
        kernel()(rows, maps, self._followed != follows, self._tables, self._scratch, out)
        self._followed = follows

    def _reserve(self, taps: int) -> None:
        """Make tables and room for this many taps, unless they are there already."""
        if taps == self._taps:
            return
        height, width = self._shape
        columns, rows = [(np.empty(count, np.int32), np.empty((taps, count), np.int16)) for count in (width, height)]
        blocks = -(-width // SCALED) if taps <= TAP_COUNTS[-1] else 0
        groups = [_aligned((blocks, count), np.uint32) for count in (4, SCALED, taps // 2 * SCALED)]
        self._tables = (columns, tuple(groups), rows)
        slots = 1 << taps.bit_length()  # a power of two above the taps: rows are made in pairs
        self._scratch = (_aligned_ring(slots, width), np.empty(width, np.int32))
        self._taps, self._followed = taps, None


def _aligned_ring(rows: int, width: int) -> np.ndarray:
    """Return room for rows of whole blocks, an odd number of cache lines apart so that they share no cache sets."""
    lines = -(-width // 32) | 1
    return _aligned((rows, lines * 32), np.int16)


def _aligned(shape: tuple[int, int], dtype: type) -> np.ndarray:
    """Return an array that starts with a cache line, so that no load of a vector spans two lines."""
    byte_count = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(byte_count + 63, np.uint8)
    skip = -raw.ctypes.data % 64
    return raw[skip : skip + byte_count].view(dtype).reshape(shape)


def warm() -> None:
    """Compile the kernel, or load it from numba's cache, so that a fork finds it ready."""
    kernel()
