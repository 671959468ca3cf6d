"""The encoder x264, through PyAV."""

from __future__ import annotations

from collections.abc import Sequence

from fanreel.codecs import EncoderChoice
from fanreel.encode.libav import LibavEncoder, open_context
from fanreel.encode.x264_options import x264_options
from fanreel.errors import EncodeFaultError, EncoderSettingsError
from fanreel.plan.encoding import EncodingPlan

__all__ = ["open_x264"]


def open_x264(plan: EncodingPlan, *, threads: int) -> LibavEncoder:
    """Return an open session of libx264.

    Raises:
        EncoderUnavailableError: This build has no libx264.
        EncoderSettingsError: It refuses the settings.
    """
    asked = x264_options(plan)
    options = {
        "preset": asked.preset,
        "profile": asked.profile,
        "crf": asked.rate_factor,
        "forced-idr": "1",
        "x264-params": ":".join(f"{key}={value}" for key, value in asked.parameters.items()),
    }
    context = open_context(
        plan, encoder="libx264", pixel_format="yuv420p", threads=threads, options=options, explain=_refused
    )
    return LibavEncoder(context, codec=plan.codec, name=EncoderChoice.X264.value, explain=_failed)


def _refused(asked: str, said: Sequence[str]) -> EncoderSettingsError:
    return EncoderSettingsError(f"x264 refused {asked}: {'; '.join(said)}")


def _failed(place: str, said: Sequence[str]) -> EncodeFaultError:
    return EncodeFaultError(f"x264 failed at {place}: {'; '.join(said)}")
