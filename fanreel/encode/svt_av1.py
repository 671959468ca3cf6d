"""The encoder SVT-AV1, through PyAV."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from fanreel.codecs import EncoderChoice
from fanreel.encode.libav import LibavEncoder, open_context
from fanreel.encode.svt_av1_options import svt_av1_options
from fanreel.errors import EncodeFaultError, EncoderSettingsError
from fanreel.plan.encoding import EncodingPlan

__all__ = ["open_svt_av1"]


def open_svt_av1(plan: EncodingPlan, *, threads: int) -> LibavEncoder:
    """Return an open session of SVT-AV1.

    Raises:
        EncoderUnavailableError: This build has no libsvtav1.
        EncoderSettingsError: It refuses the settings.
    """
    asked = svt_av1_options(plan, threads=threads)
    options = {
        "preset": asked.preset,
        "crf": asked.rate_factor,
        "svtav1-params": ":".join(f"{key}={value}" for key, value in asked.parameters.items()),
    }
    with _same_scheduling():
        context = open_context(
            plan, encoder="libsvtav1", pixel_format="yuv420p", threads=threads, options=options, explain=_refused
        )
    return LibavEncoder(context, codec=plan.codec, name=EncoderChoice.SVT_AV1.value, explain=_failed)


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


def _refused(asked: str, said: Sequence[str]) -> EncoderSettingsError:
    return EncoderSettingsError(f"SVT-AV1 refused {asked}: {'; '.join(said)}")


def _failed(place: str, said: Sequence[str]) -> EncodeFaultError:
    return EncodeFaultError(f"SVT-AV1 failed at {place}: {'; '.join(said)}")
