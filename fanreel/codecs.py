"""Codecs, the encoders that make them, and the levels of H.264: what jobs, plans and devices go by."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from fractions import Fraction

__all__ = [
    "CODEC_ENCODERS",
    "ENCODER_NAMES",
    "HIGHEST_H264_LEVEL",
    "Codec",
    "EncoderChoice",
    "h264_level",
    "is_common_h264_level",
]


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

# Level, macroblocks a frame, macroblocks a second, macroblocks of decoded picture buffer.
# Source: ITU-T H.264 (08/2021), table A-1.
_H264_LEVELS = (
    ("3.0", 1_620, 40_500, 8_100),
    ("3.1", 3_600, 108_000, 18_000),
    ("4.0", 8_192, 245_760, 32_768),
    ("4.2", 8_704, 522_240, 34_816),
    ("5.0", 22_080, 589_824, 110_400),
    ("5.1", 36_864, 983_040, 184_320),
    ("5.2", 36_864, 2_073_600, 184_320),
    ("6.0", 139_264, 4_177_920, 696_320),
    ("6.1", 139_264, 8_355_840, 696_320),
    ("6.2", 139_264, 16_711_680, 696_320),
)
HIGHEST_H264_LEVEL = _H264_LEVELS[-1][0]
_HIGHEST_COMMON = "5.2"


def h264_level(*, width_px: int, height_px: int, frame_rate: Fraction, pictures: int = 1) -> str | None:
    """Return the lowest level of H.264 that carries a film; None if it is beyond all of them.

    Args:
        width_px: Width of a frame.
        height_px: Height of a frame.
        frame_rate: Frames per second.
        pictures: How many pictures the decoder keeps.
    """
    # The longer side has a limit of its own: sqrt(8 x macroblocks a frame), A.3.1 of the same text.
    across, down = -(-width_px // 16), -(-height_px // 16)
    macroblocks, longer = across * down, max(across, down)
    for level, frame_limit, rate_limit, buffer_limit in _H264_LEVELS:
        fits = macroblocks <= frame_limit and longer**2 <= 8 * frame_limit
        if fits and macroblocks * frame_rate <= rate_limit and macroblocks * pictures <= buffer_limit:
            return level
    return None


def is_common_h264_level(level: str) -> bool:
    """Return whether players in hardware have a level: nearly none goes beyond 5.2."""
    return float(level) <= float(_HIGHEST_COMMON)
