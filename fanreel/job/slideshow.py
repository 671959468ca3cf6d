"""What a person asks for: one model behind the YAML file, the Prefect form and CI's parameters.

The shape is form-safe: flat enums and numbers, one level of nested models, no unions, no free dicts.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from fractions import Fraction
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
)
from pydantic_core import PydanticCustomError

from fanreel.codecs import ENCODERS, Codec, EncoderChoice
from fanreel.errors import InvalidJobError
from fanreel.job.fields import (
    FASTEST_RATE,
    SLOWEST_RATE,
    Count,
    LeftOut,
    Model,
    Name,
    Number,
    PoolName,
    Seconds,
    one_as_list,
    rate_as_text,
    without_default,
)
from fanreel.job.mistakes import explain_mistakes

__all__ = [
    "Codec",
    "EncoderChoice",
    "Encoding",
    "Fallback",
    "FilmKind",
    "Move",
    "OnBadPhoto",
    "Preset",
    "Slide",
    "SlideshowJob",
    "Strategy",
    "parse_job",
]

SMALLEST_SIDE_PX = 64
LARGEST_SIDE_PX = 8192

HERE = "here"
"""What `render_on` calls the machine of the flow."""

LARGEST_RATE_TERM = 1_000_000
"""Largest numerator or denominator of a frame rate: MP4's clocks and H.264's timing have 32 bits for either."""


class FilmKind(StrEnum):
    """The kind of film; one job model per kind."""

    SLIDESHOW = "slideshow"


class Move(StrEnum):
    """How the camera moves over a photo."""

    AUTO = "auto"
    STILL = "still"
    ZOOM_IN = "zoom-in"
    ZOOM_OUT = "zoom-out"
    PAN_LEFT = "pan-left"
    PAN_RIGHT = "pan-right"
    PAN_UP = "pan-up"
    PAN_DOWN = "pan-down"


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


class OnBadPhoto(StrEnum):
    """What becomes of a film of which some photos are missing or cannot be used."""

    FAIL = "fail"
    SKIP = "skip"


class Strategy(StrEnum):
    """How a film's segments are shared out."""

    AUTO = "auto"
    FILM = "film"
    SEGMENTS = "segments"


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
        if codec and encoder not in (EncoderChoice.AUTO, *ENCODERS[codec]):
            raise _contradiction(f"{encoder} does not make {codec}: ask for auto, {' or '.join(ENCODERS[codec])}")
        return encoder


class Slide(Model):
    """One photo with words of its own; what it leaves out comes from the job."""

    photo: Name = Field(description="File, relative to the job's base.")
    seconds: Annotated[Seconds | None, LeftOut()] = Field(
        default=None,
        description="How long the photo is shown; the job's seconds_per_slide if left out.",
        json_schema_extra=without_default,
    )
    move: Annotated[Move | None, LeftOut()] = Field(
        default=None,
        description="How the camera moves; the job's move if left out.",
        json_schema_extra=without_default,
    )
    start: list[Number] = Field(
        default=[], description="First view: x0, y0, x1, y1 as fractions of the photo, grown to the film's shape."
    )
    end: list[Number] = Field(default=[], description="Last view: x0, y0, x1, y1 as fractions of the photo.")

    @field_validator("start", "end")
    @classmethod
    def _is_a_view(cls, view: list[float]) -> list[float]:
        if not view:
            return view
        if len(view) != 4 or not all(0 <= value <= 1 for value in view):
            raise ValueError("four fractions from 0 to 1: x0, y0, x1, y1")
        if view[0] >= view[2] or view[1] >= view[3]:
            raise ValueError("x0 must be less than x1, and y0 less than y1")
        return view

    # What two keys say together is judged at the later one: a validator of the whole model would not
    # run, and its mistake would not be told, while any other key is wrong.

    @field_validator("start")
    @classmethod
    def _is_the_only_move(cls, start: list[float], info: ValidationInfo) -> list[float]:
        if start and info.data.get("move") is not None:
            raise _contradiction("start and end are a move of their own: leave `move` out")
        return start

    @field_validator("end")
    @classmethod
    def _has_both_views(cls, end: list[float], info: ValidationInfo) -> list[float]:
        if "start" in info.data and bool(info.data["start"]) != bool(end):
            raise _contradiction("start and end belong together: give both or neither")
        return end

    @model_serializer(mode="wrap")
    def _leave_out(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in serialize(self).items() if value is not None}


class SlideshowJob(Model):
    """A Ken Burns film from photos."""

    film: FilmKind = Field(default=FilmKind.SLIDESHOW, description="The kind of film.")
    photos: list[Name] = Field(
        default=[],
        description="Files, folders and patterns (photos/*.jpg), in order; give these or slides. "
        "Also s3://bucket/folder/ and web addresses.",
    )
    output: Name = Field(
        description="The film: a file ending in .mp4, or a folder ending in /; absolute, relative to base, or "
        "s3://bucket/folder/film.mp4."
    )
    base: str = Field(
        default="",
        description="Absolute folder that relative paths start from. "
        "Needed here; in a job file, that file's own folder.",
    )
    size: str = Field(
        default="1920x1080",
        description=f"Width x height in pixels, both even and from {SMALLEST_SIDE_PX} to {LARGEST_SIDE_PX}: 1920x1080.",
        pattern=r"^[0-9]{1,9}x[0-9]{1,9}$",
    )
    fps: Annotated[str, BeforeValidator(rate_as_text)] = Field(
        default="30",
        title="Frames per second",
        description="Frames per second: 24, 25, 30, 50, 60, or a fraction such as 30000/1001.",
        pattern=r"^[0-9]{1,9}(\.[0-9]{1,20}|/[0-9]{1,9})?$",
    )
    seconds_per_slide: Seconds = Field(default=4, description="How long each photo is shown.")
    move: Move = Field(default=Move.AUTO, description="How the camera moves over each photo.")
    zoom: Number = Field(default=1.3, ge=1, le=8, description="Ratio between the wide and the near end of a move.")
    slides: list[Slide] = Field(
        default=[], description="Instead of photos: one entry a photo, with settings of its own."
    )
    on_bad_photo: OnBadPhoto = Field(
        default=OnBadPhoto.FAIL,
        description="fail: photos that are missing or damaged are all named before anything is rendered. "
        "skip: they are left out, and the film's report names them.",
    )
    encoding: Encoding = Field(default=Encoding(), description="How the film is encoded.")
    sessions: Count = Field(
        default=0,
        title="Encoder sessions",
        ge=0,
        le=1024,
        description="Encoder sessions at once; 0 is what the machine can carry.",
    )
    strategy: Strategy = Field(
        default=Strategy.AUTO,
        description="segments: the film is fanned out over sessions, to be done soonest. film: one session of one "
        "thread makes it whole, for many films side by side. auto: segments, where there is more than one.",
    )
    render_on: Annotated[list[PoolName], BeforeValidator(one_as_list)] = Field(
        default=[HERE],
        description="here: on the machine of the flow. Or the work pools that render it, the preferred one first: "
        "nvenc, cpu.",
    )

    @field_validator("size")
    @classmethod
    def _is_even(cls, size: str) -> str:
        width, height = (int(side) for side in size.split("x"))
        if width % 2 or height % 2:
            raise ValueError(f"width and height must be even, for example {width - width % 2}x{height - height % 2}")
        if not all(SMALLEST_SIDE_PX <= side <= LARGEST_SIDE_PX for side in (width, height)):
            raise ValueError(f"each side from {SMALLEST_SIDE_PX} to {LARGEST_SIDE_PX} px")
        return size

    @field_validator("fps")
    @classmethod
    def _is_a_rate(cls, fps: str) -> str:
        rate = Fraction(fps) if int(fps.partition("/")[2] or 1) else Fraction(0)
        if not SLOWEST_RATE <= rate <= FASTEST_RATE:
            raise ValueError(f"from {SLOWEST_RATE} to {FASTEST_RATE} frames per second")
        if max(rate.numerator, rate.denominator) > LARGEST_RATE_TERM:
            raise ValueError(f"write it as a fraction of numbers up to {LARGEST_RATE_TERM:,}, such as 30000/1001")
        return fps

    @field_validator("output")
    @classmethod
    def _is_a_place_for_films(cls, output: str) -> str:
        scheme, found, rest = output.partition("://")
        if found and (scheme != "s3" or not rest.partition("/")[0]):
            raise ValueError("a file, a folder, or s3://bucket/...; other places take no films")
        return output

    @field_validator("render_on")
    @classmethod
    def _is_here_or_pools(cls, render_on: list[str]) -> list[str]:
        if not render_on:
            raise ValueError("here, or the names of work pools")
        if HERE in render_on and len(render_on) > 1:
            raise ValueError("here stands alone: name pools, or here")
        if len(set(render_on)) < len(render_on):
            raise ValueError("each pool once")
        return render_on

    @field_validator("slides")
    @classmethod
    def _names_photos_once(cls, slides: list[Slide], info: ValidationInfo) -> list[Slide]:
        photos = info.data.get("photos")
        if photos is not None and bool(photos) == bool(slides):
            raise _contradiction("give either photos or slides" + (", not both" if photos else ""))
        return slides

    @property
    def pools(self) -> tuple[str, ...]:
        """The work pools that render it, the preferred one first; none if it is rendered where its flow runs."""
        return () if self.render_on == [HERE] else tuple(self.render_on)

    @property
    def width_px(self) -> int:
        """Width of the film, px."""
        return int(self.size.split("x")[0])

    @property
    def height_px(self) -> int:
        """Height of the film, px."""
        return int(self.size.split("x")[1])

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second, exact."""
        return Fraction(self.fps)


def parse_job(values: Mapping[str, Any]) -> SlideshowJob:
    """Return the job that `values` describe.

    Args:
        values: What a YAML or JSON file holds, as plain mappings, lists and scalars.

    Raises:
        InvalidJobError: With one line per mistake: the key, its value, what is allowed.
    """
    if not isinstance(values, Mapping):
        raise InvalidJobError(f"a job is a mapping of keys to values, not {type(values).__name__}")
    try:
        return SlideshowJob.model_validate(dict(values))
    except ValidationError as error:
        raise InvalidJobError("\n".join(explain_mistakes(error, SlideshowJob))) from None


def _contradiction(message: str) -> PydanticCustomError:
    return PydanticCustomError("contradiction", "{message}", {"message": message})
