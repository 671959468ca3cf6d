"""How a film is encoded, as a person asks for it."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, ValidationInfo, field_validator

from fanreel.codecs import CODEC_ENCODERS, Codec, EncoderChoice
from fanreel.job.fields import Count, Model
from fanreel.job.mistakes import contradiction

__all__ = ["Encoding", "Fallback", "Preset"]


class Fallback(StrEnum):
    """What `auto` does with a shard that its best encoder cannot make."""

    CPU = "cpu"
    NEVER = "never"


class Preset(StrEnum):
    """Speed against size at one quality."""

    DRAFT = "draft"
    FAST = "fast"
    BALANCED = "balanced"
    BEST = "best"


class Encoding(Model):
    """How the film is encoded."""

    codec: Codec = Field(
        default=Codec.H264,
        description="h264 plays everywhere; hevc and av1 need fewer bytes, more time, and a player that has them.",
    )
    encoder: EncoderChoice = Field(
        default=EncoderChoice.AUTO,
        description="auto takes the best encoder the machine has for the codec. nvenc (all codecs), x264 (h264), x265 "
        "(hevc) and svt-av1 (av1) take no other, not even segments that another one made before.",
    )
    fallback: Fallback = Field(
        default=Fallback.CPU,
        description="With auto, what is done where NVENC fails. cpu: x264 makes those segments, as the report says; a "
        "film in hevc or av1 is of one encoder, chosen before it begins. never: the film fails.",
    )
    preset: Preset = Field(default=Preset.FAST, description="Speed against file size: draft, fast, balanced, best.")
    quality: Count = Field(default=21, ge=0, le=51, description="0 is near lossless, 51 the worst; 18 to 24 is usual.")

    @field_validator("encoder")
    @classmethod
    def _makes_the_codec(cls, encoder: EncoderChoice, info: ValidationInfo) -> EncoderChoice:
        codec = info.data.get("codec")
        if codec and encoder not in (EncoderChoice.AUTO, *CODEC_ENCODERS[codec]):
            raise contradiction(f"{encoder} does not make {codec}: ask for auto, {' or '.join(CODEC_ENCODERS[codec])}")
        return encoder
