"""The encoder x265: how it is asked for an encoding, and opened through PyAV."""

from __future__ import annotations

from collections.abc import Mapping

from fanreel.codecs import EncoderChoice
from fanreel.encode.libav import LibavEncoder, open_libav
from fanreel.job.encoding import Preset
from fanreel.plan.encoding import EncodingPlan

__all__ = ["open_x265", "x265_options"]

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


def open_x265(plan: EncodingPlan, *, threads: int) -> LibavEncoder:
    """Return an open session of libx265.

    Raises:
        EncoderUnavailableError: This build has no libx265.
        EncoderSettingsError: It refuses the settings.
    """
    options = x265_options(plan, threads=threads)
    return open_libav(plan, name=EncoderChoice.X265, encoder="libx265", threads=threads, options=options)


def x265_options(plan: EncodingPlan, *, threads: int) -> dict[str, str]:
    """Return FFmpeg's options for `libx265` to make what `plan` asks for.

    Keyframes come where the segments' plan forces them and nowhere else. The rate factor is the quality as it is:
    on the frames above, the PSNR then lies 0 to 1.6 dB above that of x264 fast with the same number, from 4 to 51.

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
        # It would write its version and settings into the stream, which would then change with them.
        "info": "0",
        # Its messages bypass libavcodec and go to the terminal.
        "log-level": "none",
    }
    return {
        "preset": _PRESETS[plan.preset],
        "profile": "main",
        "crf": str(plan.quality),
        "forced-idr": "1",
        "x265-params": ":".join(f"{key}={value}" for key, value in parameters.items()),
    }
