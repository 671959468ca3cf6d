"""The encoder SVT-AV1: how it is asked for an encoding, and opened through PyAV."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

from fanreel.codecs import EncoderChoice
from fanreel.encode.libav import LibavEncoder, open_libav
from fanreel.job.encoding import Preset
from fanreel.plan.encoding import EncodingPlan

__all__ = ["av1_rate_factor", "open_svt_av1", "svt_av1_options"]

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


def open_svt_av1(plan: EncodingPlan, *, threads: int) -> LibavEncoder:
    """Return an open session of SVT-AV1.

    Raises:
        EncoderUnavailableError: This build has no libsvtav1.
        EncoderSettingsError: It refuses the settings.
    """
    options = svt_av1_options(plan, threads=threads)
    with _same_scheduling():
        return open_libav(plan, name=EncoderChoice.SVT_AV1, encoder="libsvtav1", threads=threads, options=options)


def svt_av1_options(plan: EncodingPlan, *, threads: int) -> dict[str, str]:
    """Return FFmpeg's options for `libsvtav1` to make what `plan` asks for.

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
    return {
        "preset": _PRESETS[plan.preset],
        "crf": str(av1_rate_factor(plan.quality)),
        "svtav1-params": ":".join(f"{key}={value}" for key, value in parameters.items()),
    }


def av1_rate_factor(quality: int) -> int:
    """Return the constant rate factor, 1 to 63, that gives what x264 gives at `quality`, 0 to 51."""
    for (low, first), (high, last) in pairwise(_RATE_FACTORS):
        if quality <= high:
            return round(first + (last - first) * (quality - low) / (high - low))
    return _RATE_FACTORS[-1][1]


@contextlib.contextmanager
def _same_scheduling() -> Iterator[None]:
    """Give all threads of this process back the scheduling that this one has now.

    For root, as in most containers, SVT-AV1 (4.1, measured) makes its threads and the one that opens it real-time ones
    (SCHED_FIFO): with as many of them as cores nothing else on the host runs, and what they start inherits it.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        for thread in Path("/proc/self/task").iterdir():
            with contextlib.suppress(OSError):  # it has ended
                os.sched_setscheduler(int(thread.name), policy, parameters)
