"""How SVT-AV1 is asked for an encoding: one table from preset and quality to options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from fanreel.job.slideshow import Preset
from fanreel.plan.encoding import EncodingPlan

__all__ = ["SvtAv1Options", "av1_rate_factor", "svt_av1_options"]


@dataclass(frozen=True, slots=True)
class SvtAv1Options:
    """How SVT-AV1 is opened: its preset (0 is the slowest), constant rate factor and parameters."""

    preset: str
    rate_factor: str
    parameters: dict[str, str]


# With the parameters below, one thread, 1280x720, four moves of 40 frames over photos of the benchmarks, quality 21
# (AMD Zen 3, a busy machine; x264 fast beside it: 8 ms and 14.6 kB a frame, VMAF 96.1, PSNR 42.1 dB):
#
#   preset   ms a frame   kB a frame   VMAF   PSNR
#     9          25           6.0      96.6   41.5
#     8          38           6.3      97.1   42.3
#     6          75           5.6      98.2   42.6
#     4         151           5.7      98.3   43.0
#
# 10 and above are not for use: "visual artifacts may occur", says SVT-AV1 4.1 itself.
_PRESETS: Mapping[Preset, str] = {
    Preset.DRAFT: "9",
    Preset.FAST: "8",
    Preset.BALANCED: "6",
    Preset.BEST: "4",
}

# On the same frames x264 fast has VMAF 98.3, 96.1, 89.7 and 73.2 (PSNR 46.7, 42.1, 37.3 and 32.6) at 14, 21, 28 and 35;
# SVT-AV1 has 98.4, 96.6, 92.1 and 76.6 (46.7, 41.5, 37.8 and 32.7) at these, its own default among them. It cannot be
# as bad as x264 beyond 35. 0 would stand for "not told".
_RATE_FACTORS = ((0, 1), (14, 6), (21, 35), (28, 55), (35, 63), (51, 63))


def svt_av1_options(plan: EncodingPlan, *, threads: int) -> SvtAv1Options:
    """Return how SVT-AV1 makes what `plan` asks for.

    Keyframes come where the segments' plan forces them and nowhere else.

    Args:
        plan: What is asked for.
        threads: Its level of parallelism.
    """
    parameters = {
        "keyint": "-1",
        "scd": "0",
        # Groups of 16 frames, and the look-ahead that SVT-AV1 takes by itself. With `lookahead` 0, for half the memory,
        # 4.1 stops for ever at two keyframes side by side; with its own it made every pattern of keyframes asked of it.
        "hierarchical-levels": "4",
        "chroma-sample-position": "left",
        "lp": str(threads),
    }
    return SvtAv1Options(
        preset=_PRESETS[plan.preset], rate_factor=str(av1_rate_factor(plan.quality)), parameters=parameters
    )


def av1_rate_factor(quality: int) -> int:
    """Return the constant rate factor, 1 to 63, that gives what x264 gives at `quality`, 0 to 51."""
    for (low, first), (high, last) in pairwise(_RATE_FACTORS):
        if quality <= high:
            return round(first + (last - first) * (quality - low) / (high - low))
    return _RATE_FACTORS[-1][1]
