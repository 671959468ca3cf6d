"""The encoder x265, through PyAV."""

from __future__ import annotations

from collections.abc import Sequence

from fanreel.codecs import EncoderChoice
from fanreel.encode.libav import LibavEncoder, open_context
from fanreel.encode.x265_options import x265_options
from fanreel.errors import EncodeFaultError, EncoderSettingsError
from fanreel.plan.encoding import EncodingPlan

__all__ = ["open_x265"]


def open_x265(plan: EncodingPlan, *, threads: int) -> LibavEncoder:
    """Return an open session of libx265.

    Raises:
        EncoderUnavailableError: This build has no libx265.
        EncoderSettingsError: It refuses the settings.
    """
    asked = x265_options(plan, threads=threads)
    options = {
        "preset": asked.preset,
        "profile": asked.profile,
        "crf": asked.rate_factor,
        "forced-idr": "1",
        "x265-params": ":".join(f"{key}={value}" for key, value in asked.parameters.items()),
    }
    context = open_context(
        plan, encoder="libx265", pixel_format="yuv420p", threads=threads, options=options, explain=_refused
    )
    return LibavEncoder(context, codec=plan.codec, name=EncoderChoice.X265.value, explain=_failed)


def _refused(asked: str, said: Sequence[str]) -> EncoderSettingsError:
    return EncoderSettingsError(f"x265 refused {asked}: {'; '.join(said)}")


def _failed(place: str, said: Sequence[str]) -> EncodeFaultError:
    return EncodeFaultError(f"x265 failed at {place}: {'; '.join(said)}")
