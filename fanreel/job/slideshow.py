"""What a person asks of a slideshow: photos under a moving camera."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from fanreel.job.fields import LeftOut, Model, Name, Number, Seconds, one_as_list, without_default
from fanreel.job.film import FilmJob, FilmKind
from fanreel.job.mistakes import contradiction

__all__ = ["Fit", "Move", "OnBadPhoto", "Pairs", "Slide", "SlideshowJob"]


class Fit(StrEnum):
    """How a photo of another shape than the film's is fitted into it."""

    AUTO = "auto"
    COVER = "cover"
    CONTAIN = "contain"
    BLUR = "blur"
    PAN = "pan"


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


class OnBadPhoto(StrEnum):
    """What becomes of a film of which some photos are missing or cannot be used."""

    FAIL = "fail"
    SKIP = "skip"


class Pairs(StrEnum):
    """What becomes of pictures that are there in several files, in a folder or among those that a pattern matches."""

    ONE = "one"
    ALL = "all"


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
    fit: Annotated[Fit | None, LeftOut()] = Field(
        default=None,
        description="How the photo is fitted into the film; the job's fit if left out.",
        json_schema_extra=without_default,
    )
    start: list[Number] = Field(
        default=[], description="First view: x0, y0, x1, y1 as fractions of the photo, grown to the film's shape."
    )
    end: list[Number] = Field(default=[], description="Last view: x0, y0, x1, y1 as fractions of the photo.")

    @model_validator(mode="before")
    @classmethod
    def _take_the_photo_alone(cls, values: object) -> object:
        return {"photo": values} if isinstance(values, str) else values

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
            raise contradiction("start and end are a move of their own: leave `move` out")
        return start

    @field_validator("end")
    @classmethod
    def _has_both_views(cls, end: list[float], info: ValidationInfo) -> list[float]:
        if "start" in info.data and bool(info.data["start"]) != bool(end):
            raise contradiction("start and end belong together: give both or neither")
        return end

    @model_serializer(mode="wrap")
    def _leave_out(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in serialize(self).items() if value is not None}


class SlideshowJob(FilmJob):
    """A Ken Burns film from photos."""

    field_order: ClassVar = (
        "film",
        "photos",
        "output",
        "size",
        "seconds_per_slide",
        "move",
        "fit",
        "background",
        "zoom",
        "fps",
        "slides",
        "pairs",
        "on_bad_photo",
        "overwrite",
        "base",
        "encoding",
        "machines",
    )

    film: FilmKind = Field(default=FilmKind.SLIDESHOW, description="The kind of film.")
    photos: Annotated[list[Name], BeforeValidator(one_as_list)] = Field(
        default=[],
        description="Files, folders and patterns (photos/*.jpg) of the worker, in order. Also s3://bucket/folder/ and "
        "web addresses. Leave them out only where slides are given.",
    )
    seconds_per_slide: Seconds = Field(default=4, description="How long each photo is shown.")
    move: Move = Field(default=Move.AUTO, description="How the camera moves over each photo.")
    fit: Fit = Field(
        default=Fit.AUTO,
        description="What is done with photos of another shape than the film's. cover: what sticks out is cut off. "
        "contain: whole, on the background. blur: whole, on a blurred copy of itself. pan: the camera goes along all "
        "of it. auto: cover up to a quarter cut off, then pan if there is time for it, else blur.",
    )
    background: str = Field(
        default="#000000",
        description="What lies around a photo that fit: contain shows whole: # and six hexadecimal digits for red, "
        "green and blue, such as #000000.",
        pattern=r"^#[0-9A-Fa-f]{6}$",
    )
    zoom: Number = Field(default=1.3, ge=1, le=8, description="Ratio between the wide and the near end of a move.")
    slides: Annotated[list[Slide], BeforeValidator(one_as_list)] = Field(
        default=[], description="Instead of photos: one entry a photo, with settings of its own."
    )
    pairs: Pairs = Field(
        default=Pairs.ONE,
        description="one: of a picture that a folder or a pattern has in several files, one is shown: the edited "
        "version, else HEIC, else JPEG. all: every file is a photo.",
    )
    on_bad_photo: OnBadPhoto = Field(
        default=OnBadPhoto.FAIL,
        description="fail: photos that are missing or damaged are all named before anything is rendered. "
        "skip: they are left out, and the film's report names them.",
    )

    @field_validator("slides")
    @classmethod
    def _names_photos_once(cls, slides: list[Slide], info: ValidationInfo) -> list[Slide]:
        photos = info.data.get("photos")
        if photos and slides:
            raise contradiction("give either photos or slides, not both")
        if photos is not None and not photos and not slides:
            raise contradiction("none; give photos or slides", at="photos")
        return slides

    @property
    def background_rgb(self) -> tuple[int, int, int]:
        """Red, green and blue of the background, each from 0 to 255."""
        red, green, blue = bytes.fromhex(self.background[1:])
        return red, green, blue
