"""The encoder SVT-AV1, through PyAV."""

from __future__ import annotations

from collections.abc import Sequence

from fanreel.encoders import EncoderChoice
from fanreel.errors import EncodeFaultError, EncoderSettingsError
from fanreel.media.libav import LibavEncoder, open_context
from fanreel.plan.encoding import EncodingPlan
from fanreel.plan.svt_av1 import svt_av1_options

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
    context = open_context(
        plan, encoder="libsvtav1", pixel_format="yuv420p", threads=threads, options=options, explain=_refused
    )
    return LibavEncoder(context, codec=plan.codec, name=EncoderChoice.SVT_AV1.value, explain=_failed)


def _refused(asked: str, said: Sequence[str]) -> EncoderSettingsError:
    return EncoderSettingsError(f"SVT-AV1 refused {asked}: {'; '.join(said)}")


def _failed(place: str, said: Sequence[str]) -> EncodeFaultError:
    return EncodeFaultError(f"SVT-AV1 failed at {place}: {'; '.join(said)}")
