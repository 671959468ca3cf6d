"""Frame rates, ticks and the one rounding rule from seconds to frames."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

__all__ = ["TimeBase", "frame_count", "time_base"]

SMALLEST_TIMESCALE = 10_000


@dataclass(frozen=True, slots=True)
class TimeBase:
    """The film's clock: `timescale` ticks a second, `frame_ticks` ticks a frame, both exact integers."""

    timescale: int
    frame_ticks: int


def time_base(frame_rate: Fraction) -> TimeBase:
    """Return the coarsest clock of at least 10,000 ticks a second in which every frame is whole ticks.

    Finer than one tick a frame, so that audio and edit lists can be placed within a frame.

    Args:
        frame_rate: Frames per second, exact.
    """
    factor = 1
    while frame_rate.numerator * factor < SMALLEST_TIMESCALE:
        factor *= 2
    return TimeBase(timescale=frame_rate.numerator * factor, frame_ticks=frame_rate.denominator * factor)


def frame_count(seconds: float, frame_rate: Fraction) -> int:
    """Return how many frames show `seconds`: rounded half up, at least one.

    Each clip is rounded by itself, not at its place in the film, so that the same clip has the same
    frames wherever it stands. The film is then at most half a frame a clip longer or shorter than the
    sum of the seconds asked for.

    Args:
        seconds: As written by a person; its decimal digits count, not its binary approximation.
        frame_rate: Frames per second, exact.
    """
    exact = Fraction(str(seconds)) * frame_rate
    return max(1, int(exact + Fraction(1, 2)))
