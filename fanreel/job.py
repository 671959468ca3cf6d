"""What a person asks for: one model behind the YAML file, the Prefect form and CI's parameters.

The shape is form-safe: flat enums and numbers, one level of nested models, no unions, no free dicts.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from fractions import Fraction
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema

from fanreel.errors import InvalidJobError

__all__ = ["EncoderChoice", "Encoding", "FilmKind", "Move", "Preset", "Slide", "SlideshowJob", "parse_job"]

SMALLEST_SIDE_PX = 64
LARGEST_SIDE_PX = 8192


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


class EncoderChoice(StrEnum):
    """Which encoder may make the film; `auto` takes the best one the machine has."""

    AUTO = "auto"
    NVENC = "nvenc"
    X264 = "x264"


class Preset(StrEnum):
    """Speed against size at one quality."""

    DRAFT = "draft"
    FAST = "fast"
    BALANCED = "balanced"
    BEST = "best"


class Model(BaseModel):
    """What every job model shares: unknown keys are refused, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def _number_as_text(value: object) -> object:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


class Encoding(Model):
    """How the film is encoded."""

    encoder: EncoderChoice = Field(
        default=EncoderChoice.AUTO, description="auto takes the best encoder the machine has."
    )
    preset: Preset = Field(default=Preset.FAST, description="Speed against file size: draft, fast, balanced, best.")
    quality: int = Field(default=21, ge=0, le=51, description="0 is near lossless, 51 the worst; 18 to 24 is usual.")


class Slide(Model):
    """One photo with words of its own; what it leaves out comes from the job."""

    photo: str = Field(min_length=1, description="File, relative to the job's base.")
    seconds: Annotated[float, Field(gt=0, le=3600)] | SkipJsonSchema[None] = Field(
        default=None, description="How long the photo is shown; the job's seconds_per_slide if left out."
    )
    move: Move | SkipJsonSchema[None] = Field(
        default=None, description="How the camera moves; the job's move if left out."
    )
    start: list[float] = Field(
        default=[], description="First view: x0, y0, x1, y1 as fractions of the photo, grown to the film's shape."
    )
    end: list[float] = Field(default=[], description="Last view: x0, y0, x1, y1 as fractions of the photo.")

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

    @model_validator(mode="after")
    def _has_both_views(self) -> Self:
        if bool(self.start) != bool(self.end):
            raise ValueError("start and end belong together: give both or neither")
        if self.start and self.move is not None:
            raise ValueError("start and end are a move of their own: leave `move` out")
        return self


class SlideshowJob(Model):
    """A Ken Burns film from photos."""

    film: FilmKind = Field(default=FilmKind.SLIDESHOW, description="The kind of film.")
    size: str = Field(
        default="1920x1080", description="Width x height in pixels, both even.", pattern=r"^[0-9]+x[0-9]+$"
    )
    fps: Annotated[str, BeforeValidator(_number_as_text)] = Field(
        default="30",
        description="Frames per second: 24, 25, 30, 50, 60, or a fraction such as 30000/1001.",
        pattern=r"^[0-9]+(\.[0-9]+|/[0-9]+)?$",
    )
    photos: list[str] = Field(default=[], description="Files, folders and patterns (photos/*.jpg), in order.")
    seconds_per_slide: float = Field(default=4, gt=0, le=3600, description="How long each photo is shown.")
    move: Move = Field(default=Move.AUTO, description="How the camera moves over each photo.")
    zoom: float = Field(default=1.3, ge=1, le=8, description="Ratio between the wide and the near end of a move.")
    slides: list[Slide] = Field(default=[], description="Instead of photos: one entry a photo, with words of its own.")
    encoding: Encoding = Field(default=Encoding(), description="How the film is encoded.")
    sessions: int = Field(
        default=0, ge=0, le=1024, description="Encoder sessions at once; 0 is what the machine can carry."
    )
    output: str = Field(min_length=1, description="The film: a file (.mp4) or a folder.")
    base: str = Field(
        default="", description="Folder that relative paths start from; a job file's own folder if left out."
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
        if fps.endswith("/0") or re.fullmatch(r"[0-9]+/0+", fps) or not 1 <= Fraction(fps) <= 240:
            raise ValueError("from 1 to 240 frames per second")
        return fps

    @field_validator("output")
    @classmethod
    def _is_local(cls, output: str) -> str:
        if "://" in output:
            raise ValueError("a local file or folder; other places are not supported yet")
        return output

    @model_validator(mode="after")
    def _names_photos_once(self) -> Self:
        if bool(self.photos) == bool(self.slides):
            raise ValueError("give either photos or slides" + (", not both" if self.photos else ""))
        return self

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
        lines = [_explain(detail, values) for detail in error.errors(include_url=False)]
        raise InvalidJobError("\n".join(lines)) from None


def _explain(detail: Any, values: Mapping[str, Any]) -> str:  # noqa: ANN401 -- pydantic's ErrorDetails
    place = ".".join(str(part) for part in detail["loc"]) or "job"
    match detail["type"]:
        case "extra_forbidden":
            return f"{place}: unknown key; {_suggest(detail['loc'], _model_at(detail['loc']).model_fields)}"
        case "missing":
            return f"{place}: missing; {_description(detail['loc'])}"
        case "string_pattern_mismatch":
            return f"{place}: {_shown(detail['input'])} is not allowed; {_description(detail['loc'])}"
        case _:
            reason = str(detail["msg"]).removeprefix("Value error, ")
            value = "" if isinstance(detail["input"], Mapping) else f"{_shown(detail['input'])} is not allowed; "
            return f"{place}: {value}{reason[:1].lower()}{reason[1:]}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _model_at(location: tuple[str | int, ...]) -> type[Model]:
    return {"encoding": Encoding, "slides": Slide}.get(str(location[0]) if len(location) > 1 else "", SlideshowJob)


def _description(location: tuple[str | int, ...]) -> str:
    field = _model_at(location).model_fields.get(str(location[-1]))
    return (field.description if field else None) or "see the README for the job's keys"


def _suggest(location: tuple[str | int, ...], known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(location[-1]), list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"
