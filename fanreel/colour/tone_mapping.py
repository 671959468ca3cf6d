"""Light beyond white, brought into what an SDR film can show.

Up to a knee nothing changes, so that a picture that has an SDR twin looks like it. Above, light rolls off towards
white, which the picture's own highlights reach. Red, green and blue are scaled alike, and mixed with white the more
the stronger they were scaled: a highlight keeps its hue and pales, as on film, and does not become a flat patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np

from fanreel.colour.curves import LIGHT_UNIT

__all__ = ["find_peak", "roll_off"]

KNEE = 0.7
"""The light, in whites, from which it is compressed: code 217 of sRGB."""

_HIGHLIGHTS_LEFT_OUT = 1000  # one pixel in so many may be brighter than the peak: a glint does not dull the clouds
_STEPS = 64  # in how many a white is divided to find the peak


def find_peak(light: Sequence[np.ndarray]) -> float:
    """Return the light of a picture that becomes white, in whites: at least 1.

    Args:
        light: Of some of its pixels, by channels; int64 in units of white/65536.
    """
    brightest = np.maximum(reduce(np.maximum, light), 0)
    counts = np.bincount(brightest.ravel() * _STEPS // LIGHT_UNIT)
    beyond = np.cumsum(counts[::-1])[::-1]  # how many pixels have this step or more
    step = int(np.flatnonzero(beyond * _HIGHLIGHTS_LEFT_OUT >= brightest.size)[-1])
    # The last step of a picture without highlights begins with white itself.
    return 1.0 if step <= _STEPS else (step + 1) / _STEPS


def roll_off(light: Sequence[np.ndarray], *, peak: float) -> list[np.ndarray]:
    """Return light of at most white, by channels, int64 in units of white/65536 like what it is given.

    Between the knee and the peak it is Reinhard's curve, which leaves the knee with slope 1 and ends at white; with a
    peak of 1 it is a straight line. Source: Reinhard et al., "Photographic tone reproduction" (2002), equation 4.
    """
    brightest = reduce(np.maximum, light)
    beyond = brightest > KNEE * LIGHT_UNIT
    if not beyond.any():
        return list(light)
    before = brightest[beyond] / LIGHT_UNIT
    over, most = (np.minimum(before, peak) - KNEE) / (1 - KNEE), (peak - KNEE) / (1 - KNEE)
    after = KNEE + (1 - KNEE) * (over * (1 + over / (most * most)) / (1 + over))
    gains = after / before
    whitened, level = np.square(1 - gains), after * LIGHT_UNIT
    shown = [channel.copy() for channel in light]
    for channel in shown:
        dimmed = channel[beyond] * gains
        channel[beyond] = dimmed + (level - dimmed) * whitened + 0.5
    return shown
