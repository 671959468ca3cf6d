"""What is asked of an encoder, and how each encoder is asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from fanreel.job import EncoderChoice, Encoding, Preset

__all__ = [
    "ENCODING_REVISION",
    "EncodingPlan",
    "X264Options",
    "encoder_bytes_per_pixel",
    "plan_encoding",
    "x264_options",
]

ENCODING_REVISION = 1
"""Raised when a preset's options change, so that segments made with the old ones are not reused."""


@dataclass(frozen=True, slots=True)
class EncodingPlan:
    """The encoding asked for, the same for every segment of a film.

    Attributes:
        encoder: Which encoder may make a segment; stands in the segment's record, not in its address.
        preset: Speed against size.
        quality: 0 (near lossless) to 51.
        width_px: Even.
        height_px: Even.
        frame_rate: Frames per second.
        reorder_frames: The film's reorder delay: DTS is PTS order shifted by so many frames.
    """

    encoder: EncoderChoice
    preset: Preset
    quality: int
    width_px: int
    height_px: int
    frame_rate: Fraction
    reorder_frames: int


@dataclass(frozen=True, slots=True)
class X264Options:
    """How libx264 is opened: preset, profile and constant rate factor, and the stream's features pinned."""

    preset: str
    profile: str
    rate_factor: str
    parameters: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Features:
    profile: str
    b_frames: int
    references: int
    cabac: bool
    transform_8x8: bool
    bytes_per_pixel: int


_X264_PRESETS = {
    Preset.DRAFT: "ultrafast",
    Preset.FAST: "veryfast",
    Preset.BALANCED: "medium",
    Preset.BEST: "slow",
}

# What each x264 preset switches on by itself (x264 --fullhelp), pinned: a build with other defaults
# must not make a segment with other parameter sets than its neighbours. Memory is measured: the peak of a
# session of one thread less its base, at 720p, 1080p and 2160p; look-ahead makes the difference.
_FEATURES = {
    Preset.DRAFT: _Features("baseline", b_frames=0, references=1, cabac=False, transform_8x8=False, bytes_per_pixel=40),
    Preset.FAST: _Features("high", b_frames=3, references=1, cabac=True, transform_8x8=True, bytes_per_pixel=80),
    Preset.BALANCED: _Features("high", b_frames=3, references=3, cabac=True, transform_8x8=True, bytes_per_pixel=180),
    Preset.BEST: _Features("high", b_frames=3, references=4, cabac=True, transform_8x8=True, bytes_per_pixel=220),
}

# Level, macroblocks a frame, macroblocks a second, macroblocks of decoded picture buffer.
# Source: ITU-T H.264 (08/2021), table A-1.
_LEVELS = (
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


def plan_encoding(encoding: Encoding, *, width_px: int, height_px: int, frame_rate: Fraction) -> EncodingPlan:
    """Return the encoding that a job asks for, with the delay that every segment of the film keeps."""
    return EncodingPlan(
        encoder=encoding.encoder,
        preset=encoding.preset,
        quality=encoding.quality,
        width_px=width_px,
        height_px=height_px,
        frame_rate=frame_rate,
        reorder_frames=2 if _FEATURES[encoding.preset].b_frames else 0,
    )


def x264_options(plan: EncodingPlan) -> X264Options:
    """Return how libx264 makes what `plan` asks for.

    Keyframes come where the segments' plan forces them and nowhere else; parameter sets have id 1, so
    that an encoder whose sets have id 0 (NVENC's default) can share one film.
    """
    features = _FEATURES[plan.preset]
    parameters = {
        "sps-id": "1",
        "keyint": "infinite",
        "scenecut": "0",
        "open-gop": "0",
        "bframes": str(features.b_frames),
        "b-pyramid": "normal" if features.b_frames else "none",
        "ref": str(features.references),
        "cabac": str(int(features.cabac)),
        "8x8dct": str(int(features.transform_8x8)),
        "level": _lowest_level(plan, references=max(features.references, 1 + plan.reorder_frames)),
        "stitchable": "1",
    }
    return X264Options(
        preset=_X264_PRESETS[plan.preset],
        profile=features.profile,
        # x264 takes less than 1 for lossless, which is another profile that few players know.
        rate_factor=str(max(1, plan.quality)),
        parameters=parameters,
    )


def encoder_bytes_per_pixel(plan: EncodingPlan) -> int:
    """Return the memory that a session's frames take, in bytes per pixel of the film."""
    return _FEATURES[plan.preset].bytes_per_pixel


def _lowest_level(plan: EncodingPlan, *, references: int) -> str:
    # The longer side has a limit of its own: sqrt(8 x macroblocks a frame), A.3.1 of the same text.
    across, down = -(-plan.width_px // 16), -(-plan.height_px // 16)
    macroblocks, longer = across * down, max(across, down)
    for level, frame_limit, rate_limit, buffer_limit in _LEVELS:
        fits = macroblocks <= frame_limit and longer**2 <= 8 * frame_limit
        fits = fits and macroblocks * plan.frame_rate <= rate_limit
        if fits and macroblocks * references <= buffer_limit:
            return level
    return _LEVELS[-1][0]
