"""The encoder NVENC: how it is asked for an encoding, and opened through PyAV on the GPU that this process sees."""

from __future__ import annotations

from collections.abc import Mapping

from fanreel.codecs import Codec, EncoderChoice
from fanreel.encode.libav import LibavEncoder, open_libav
from fanreel.encode.nvenc_faults import classify_fault
from fanreel.encode.svt_av1 import av1_rate_factor
from fanreel.job.encoding import Preset
from fanreel.plan.encoding import EncodingPlan

__all__ = ["nvenc_options", "open_nvenc"]

# One engine makes 1080p H.264 at some 885, 650, 280 and 210 frames a second with these on Ada; P3 is the slowest
# that keeps up with what a core draws. Source: NVIDIA Video Codec SDK 13 application note, table of H.264 VBR HQ.
_PRESETS: Mapping[Preset, str] = {
    Preset.DRAFT: "p1",
    Preset.FAST: "p3",
    Preset.BALANCED: "p5",
    Preset.BEST: "p7",
}

# B-frames that nothing refers to come out one frame late. For H.264 every NVENC since Maxwell has them, for AV1 every
# one that makes it; for HEVC those before Turing have none and refuse to open.
# Source: NVIDIA Video Encode and Decode GPU Support Matrix.
_OF_CODEC: Mapping[Codec, Mapping[str, str]] = {
    Codec.H264: {"profile": "high", "bf": "2"},
    Codec.HEVC: {"profile": "main", "tier": "main", "bf": "0"},
    Codec.AV1: {"tier": "0", "bf": "2"},
}

_KEYFRAME_DISTANCE = 1 << 30
"""More frames than any segment has: keyframes come where they are forced, and nowhere else."""


def open_nvenc(plan: EncodingPlan) -> LibavEncoder:
    """Return an open NVENC session.

    PyAV keeps the driver's session until the last reference to the codec is gone, so a process opens one and exits.

    Raises:
        EncoderError: The driver refuses, in the class and with the number that `classify_fault` finds.
    """
    return open_libav(
        plan,
        name=EncoderChoice.NVENC,
        encoder=f"{plan.codec}_nvenc",
        pixel_format="nv12",
        threads=1,
        options=nvenc_options(plan),
        explain=classify_fault,
    )


def nvenc_options(plan: EncodingPlan) -> dict[str, str]:
    """Return FFmpeg's options for `h264_nvenc`, `hevc_nvenc` or `av1_nvenc` to make what `plan` asks for.

    Parameter sets keep NVENC's default id 0; x264's have 1, so that both can share one film.

    Source:
        FFmpeg, `ffmpeg -h encoder=h264_nvenc` and so on; NVIDIA Video Encoder API programming guide, chapters 6 (rate
        control) and 7.
    """
    return {
        "preset": _PRESETS[plan.preset],
        "tune": "hq",
        **_OF_CODEC[plan.codec],
        # Constant quality: without `cq` and `b` FFmpeg aims at 2 Mbit/s; `crf` means nothing to NVENC.
        "rc": "vbr",
        "cq": str(_constant_quality(plan)),
        "b": "0",
        "g": str(_KEYFRAME_DISTANCE),
        "forced-idr": "1",
        "no-scenecut": "1",
        "strict_gop": "1",
        # Nothing looks ahead: it would end before each join and let the quality pulse there (decision 0010).
        "rc-lookahead": "0",
        "b_ref_mode": "disabled",
        # The session sees one GPU only, the one that it was given.
        "gpu": "0",
    }


def _constant_quality(plan: EncodingPlan) -> int:
    """Return `cq`, of which 0 means "automatic"; for AV1 its scale ends at 63, as that of SVT-AV1 does."""
    return av1_rate_factor(plan.quality) if plan.codec is Codec.AV1 else max(1, plan.quality)
