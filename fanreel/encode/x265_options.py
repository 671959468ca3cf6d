"""How libx265 is asked for an encoding: one table from preset and quality to options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fanreel.job.slideshow import Preset
from fanreel.plan.encoding import EncodingPlan

__all__ = ["X265Options", "x265_options"]


@dataclass(frozen=True, slots=True)
class X265Options:
    """How libx265 is opened: preset, profile, constant rate factor and parameters."""

    preset: str
    profile: str
    rate_factor: str
    parameters: dict[str, str]


# With the parameters below, one thread, 1280x720, four moves of 40 frames over photos of the benchmarks, quality 21
# (AMD Zen 3, a busy machine; x264 fast beside it: 8 ms and 14.6 kB a frame, VMAF 96.1, PSNR 42.1 dB):
#
#   preset       ms a frame   kB a frame   VMAF   PSNR
#   ultrafast        31          10.8      96.7   41.4
#   superfast        45           7.6      97.3   42.2
#   medium           71           7.5      97.2   42.7
#   slow            239           7.7      97.6   43.1
#
# Half a dB is worth 11 % of bytes here. `veryfast` lay between superfast and medium in time and gave what superfast
# gives.
_PRESETS: Mapping[Preset, str] = {
    Preset.DRAFT: "ultrafast",
    Preset.FAST: "superfast",
    Preset.BALANCED: "medium",
    Preset.BEST: "slow",
}

_B_FRAMES = 5
"""As many as x264's balanced has. Against three: 15 % fewer bytes in three quarters of the time."""


def x265_options(plan: EncodingPlan, *, threads: int) -> X265Options:
    """Return how libx265 makes what `plan` asks for.

    Keyframes come where the segments' plan forces them and nowhere else. The rate factor is the quality as it is:
    on the frames above the PSNR then lies 0 to 1.6 dB above that of x264 fast with the same number, from 4 to 51.

    Args:
        plan: What is asked for.
        threads: Frames that are worked on at once. Wavefronts, x265's other way, would change the parameter sets
            with the number of threads, and cost bytes.
    """
    parameters = {
        "keyint": "-1",
        "min-keyint": "1",
        "scenecut": "0",
        "open-gop": "0",
        "bframes": str(_B_FRAMES),
        "b-adapt": "0",
        "b-pyramid": "1",
        "weightp": "0",
        "weightb": "0",
        # x265 wants to see more frames than it has B-frames in a row. It must not plan by them: where its macroblock
        # tree ends, the last frames before a join were 1.2 to 1.6 dB worse than their neighbours (without it 0.4).
        "rc-lookahead": str(_B_FRAMES + 1),
        "cutree": "0",
        "repeat-headers": "0",
        "wpp": "0",
        "pools": "none" if threads == 1 else str(threads),
        "frame-threads": str(threads),
        # Its version and settings, in a message of its own, would change the stream with them.
        "info": "0",
        # What it says goes past libavcodec, to the terminal.
        "log-level": "none",
    }
    return X265Options(
        preset=_PRESETS[plan.preset], profile="main", rate_factor=str(plan.quality), parameters=parameters
    )
