"""The encoding of a film, decided.

An `Encoding` (job/encoding.py) is what a person asks for. An `EncodingPlan` is made from it here, with the film's size
and rate; encoders are opened with it. The options of each encoder are beside that encoder, in encode/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from fanreel.codecs import CODEC_ENCODERS, Codec, EncoderChoice, h264_level, is_common_h264_level
from fanreel.job.encoding import Encoding, Fallback, Preset

__all__ = [
    "ENCODING_REVISION",
    "EncodingPlan",
    "allowed_encoders",
    "encoder_bytes_per_pixel",
    "level_note",
    "plan_encoding",
]

ENCODING_REVISION = 3
"""Raised when a preset's options change, so that segments made with the old ones are not reused."""


@dataclass(frozen=True, slots=True)
class EncodingPlan:
    """The encoding asked for, the same for every segment of a film.

    Attributes:
        codec: What the segments are coded in.
        encoder: Which encoder may make a segment; stands in the segment's record, not in its address.
        fallback: Whether `auto` may take another encoder where its best one fails.
        preset: Speed against size.
        quality: 0 (near lossless) to 51.
        width_px: Even.
        height_px: Even.
        frame_rate: Frames per second.
        reorder_frames: The film's reorder delay: DTS is PTS order shifted by so many frames.
    """

    codec: Codec
    encoder: EncoderChoice
    fallback: Fallback
    preset: Preset
    quality: int
    width_px: int
    height_px: int
    frame_rate: Fraction
    reorder_frames: int

    @property
    def may_mix_encoders(self) -> bool:
        """Whether the film may have segments of several encoders: only in H.264, and not with `fallback: never`."""
        return self.codec is Codec.H264 and self.fallback is not Fallback.NEVER


_REORDER_FRAMES: Mapping[Codec, int] = {Codec.H264: 2, Codec.HEVC: 2, Codec.AV1: 0}
"""With B-frames that other frames refer to (a pyramid), packets come out two frames late. AV1 puts a frame that is
decoded early and shown late into the sample of the next frame shown: its samples are in the order of their frames."""

_BYTES_PER_PIXEL: Mapping[Codec, int] = {Codec.H264: 70, Codec.HEVC: 130, Codec.AV1: 240}
"""Peak of a session of one thread less its base, at 720p and 1080p. x264: 37 (draft) to 67. x265: 120. SVT-AV1: 150
(draft) to 230 (best)."""


def plan_encoding(encoding: Encoding, *, width_px: int, height_px: int, frame_rate: Fraction) -> EncodingPlan:
    """Return the encoding that a job asks for, with the delay that every segment of the film keeps."""
    return EncodingPlan(
        codec=encoding.codec,
        encoder=encoding.encoder,
        fallback=encoding.fallback,
        preset=encoding.preset,
        quality=encoding.quality,
        width_px=width_px,
        height_px=height_px,
        frame_rate=frame_rate,
        reorder_frames=_REORDER_FRAMES[encoding.codec],
    )


def encoder_bytes_per_pixel(plan: EncodingPlan) -> int:
    """Return the memory that a session's frames take, in bytes per pixel of the film."""
    return _BYTES_PER_PIXEL[plan.codec]


def level_note(plan: EncodingPlan) -> str | None:
    """Return what people should know of where the film plays; None where nothing keeps it from most players."""
    if plan.codec is not Codec.H264:
        return None
    level = h264_level(
        width_px=plan.width_px,
        height_px=plan.height_px,
        frame_rate=plan.frame_rate,
        pictures=1 + plan.reorder_frames,
    )
    if level is not None and is_common_h264_level(level):
        return None
    return (
        f"{plan.width_px}x{plan.height_px} at {float(plan.frame_rate):g} fps is h264 of level {level}, which few "
        "players have in hardware; more of them play hevc (encoding.codec)"
    )


def allowed_encoders(plan: EncodingPlan) -> tuple[str, ...]:
    """Return the encoders whose segments the film may have, the best one first, as far as the job decides."""
    allowed = CODEC_ENCODERS[plan.codec] if plan.encoder is EncoderChoice.AUTO else (plan.encoder,)
    return tuple(encoder.value for encoder in allowed)
