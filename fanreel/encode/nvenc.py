"""The encoder NVENC, through PyAV, on the GPU that this process was given."""

from __future__ import annotations

from fanreel.codecs import EncoderChoice
from fanreel.encode.libav import LibavEncoder, open_context
from fanreel.encode.nvenc_faults import classify_fault
from fanreel.encode.nvenc_options import nvenc_options
from fanreel.plan.encoding import EncodingPlan

__all__ = ["open_nvenc"]


def open_nvenc(plan: EncodingPlan) -> LibavEncoder:
    """Return an open NVENC session.

    PyAV keeps the driver's session until the last reference to the codec is gone, so a process opens one and exits.

    Raises:
        EncoderError: The driver refuses, in the class and with the number that `classify_fault` finds.
    """
    context = open_context(
        plan,
        encoder=f"{plan.codec}_nvenc",
        pixel_format="nv12",
        threads=1,
        options=nvenc_options(plan),
        explain=classify_fault,
    )
    return LibavEncoder(context, codec=plan.codec, name=EncoderChoice.NVENC.value, explain=classify_fault)
