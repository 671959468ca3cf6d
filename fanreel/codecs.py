"""Codecs and the encoders that make them: the one table that jobs, plans and devices go by."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

__all__ = ["CODEC_ENCODERS", "ENCODER_NAMES", "Codec", "EncoderChoice"]


class Codec(StrEnum):
    """What the film's pictures are coded in."""

    H264 = "h264"
    HEVC = "hevc"
    AV1 = "av1"


class EncoderChoice(StrEnum):
    """Which encoder may make the film; `auto` takes the best one that the machine has for the codec."""

    AUTO = "auto"
    NVENC = "nvenc"
    X264 = "x264"
    X265 = "x265"
    SVT_AV1 = "svt-av1"


CODEC_ENCODERS: Mapping[Codec, tuple[EncoderChoice, ...]] = {
    Codec.H264: (EncoderChoice.NVENC, EncoderChoice.X264),
    Codec.HEVC: (EncoderChoice.NVENC, EncoderChoice.X265),
    Codec.AV1: (EncoderChoice.NVENC, EncoderChoice.SVT_AV1),
}
"""Which encoders make a codec, the best one first; the last one needs no more than a CPU."""

ENCODER_NAMES = tuple(dict.fromkeys(encoder.value for encoders in CODEC_ENCODERS.values() for encoder in encoders))
"""All encoders, as the records of segments name them; of each codec the best one first."""
