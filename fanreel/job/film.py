"""What all kinds of film have in common: where the film goes, its size and rate, how and where it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from fractions import Fraction
from typing import Annotated, ClassVar, Self

from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from fanreel.codecs import Codec, h264_level
from fanreel.job.encoding import Encoding
from fanreel.job.fields import Model, Name
from fanreel.job.form import say_what_is_allowed
from fanreel.job.machines import Machines, Strategy, gather_machines
from fanreel.job.mistakes import contradiction
from fanreel.job.rates import (
    FASTEST_RATE,
    LARGEST_RATE_TERM,
    RATE_PATTERN,
    SIZE_PATTERN,
    SLOWEST_RATE,
    exact_rate,
    rate_as_text,
    size_in_pixels,
)

__all__ = ["FilmJob", "FilmKind"]

SMALLEST_SIDE_PX = 64
LARGEST_SIDE_PX = 8192

LARGEST_HEVC_PX = 35_651_584
"""Pixels of a frame at the highest level, 6.2. Source: ITU-T H.265 (08/2021), table A.8."""


class FilmKind(StrEnum):
    """The kind of film; one job model per kind."""

    SLIDESHOW = "slideshow"


class FilmJob(Model):
    """A film, whatever it shows. Each kind has a model of its own with what is asked of it alone.

    The shape is form-safe: flat enums and numbers, one level of nested models, no unions, no free dicts.
    """

    model_config = ConfigDict(json_schema_extra=say_what_is_allowed)

    field_order: ClassVar[Sequence[str]] = ()
    """All fields of a kind, in the order of its form; mistakes are told in this order too."""

    film: FilmKind = Field(description="The kind of film.")
    output: Name = Field(
        description="The film, on the worker: a file ending in .mp4, or a folder ending in /; absolute, or relative to "
        "base. Or s3://bucket/folder/film.mp4."
    )
    overwrite: bool = Field(
        default=False,
        description="Replace a file at output that fanreel did not make; a film that it made is replaced anyway.",
    )
    base: str = Field(
        default="",
        description="Folder of the worker, absolute, from which relative paths start. Leave it out where all paths are "
        "absolute; in a job file it is that file's own folder.",
    )
    size: Annotated[str, BeforeValidator(size_in_pixels)] = Field(
        default="1920x1080",
        description=f"Width x height in pixels, both even and from {SMALLEST_SIDE_PX} to {LARGEST_SIDE_PX}: 1920x1080. "
        "Or 720p, 1080p, 1440p, 4k, vertical, square.",
        pattern=SIZE_PATTERN,
    )
    fps: Annotated[str, BeforeValidator(rate_as_text)] = Field(
        default="30",
        title="Frames per second",
        description="Frames per second: 24, 25, 30, 50, 60, or a fraction such as 30000/1001, for which 29.97 stands.",
        pattern=RATE_PATTERN,
    )
    encoding: Encoding = Field(default=Encoding(), description="How the film is encoded.")
    machines: Machines = Field(
        default=Machines(), description="Where the film is made, and by how many encoder sessions."
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **words: object) -> None:
        """Put the fields of a kind into its order: pydantic puts those of the base class first."""
        super().__pydantic_init_subclass__(**words)
        cls.model_fields.update({name: cls.model_fields.pop(name) for name in cls.field_order})
        cls.model_rebuild(force=True)

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, values: object) -> object:
        return gather_machines(values) if isinstance(values, Mapping) else values

    @field_validator("size")
    @classmethod
    def _is_even(cls, size: str) -> str:
        width, height = _sides(size)
        if width % 2 or height % 2:
            raise ValueError(f"width and height must be even, for example {width - width % 2}x{height - height % 2}")
        if not all(SMALLEST_SIDE_PX <= side <= LARGEST_SIDE_PX for side in (width, height)):
            raise ValueError(f"each side from {SMALLEST_SIDE_PX} to {LARGEST_SIDE_PX} px")
        return size

    @field_validator("fps")
    @classmethod
    def _is_a_rate(cls, fps: str) -> str:
        rate = exact_rate(fps)
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

    @field_validator("encoding")
    @classmethod
    def _has_a_level(cls, encoding: Encoding, info: ValidationInfo) -> Encoding:
        if encoding.codec is Codec.H264 and {"size", "fps"} <= info.data.keys():
            size, fps = info.data["size"], info.data["fps"]
            width, height = _sides(size)
            if h264_level(width_px=width, height_px=height, frame_rate=exact_rate(fps)) is None:
                instead = "a smaller size" + (", or codec hevc" if width * height <= LARGEST_HEVC_PX else "")
                raise contradiction(
                    f"no level of h264 carries {size} at {fps} frames per second, so that no player "
                    f"has to play it: ask for {instead}"
                )
        return encoding

    def with_machines(self, **changes: object) -> Self:
        """Return the job with other values of `machines`, which are not checked."""
        return self.model_copy(update={"machines": self.machines.model_copy(update=changes)})

    @property
    def pools(self) -> tuple[str, ...]:
        """The work pools that render it, the preferred one first; none if it is rendered where its flow runs."""
        return self.machines.pools

    @property
    def sessions(self) -> int:
        """Encoder sessions at once; 0 is what the machine can carry."""
        return self.machines.sessions

    @property
    def strategy(self) -> Strategy:
        """How its segments are shared out."""
        return self.machines.strategy

    @property
    def width_px(self) -> int:
        """Width of the film, px."""
        return _sides(self.size)[0]

    @property
    def height_px(self) -> int:
        """Height of the film, px."""
        return _sides(self.size)[1]

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second, exact; 24000/1001 for 23.976."""
        return exact_rate(self.fps)


def _sides(size: str) -> tuple[int, int]:
    """Return width and height, px, of a size that is written as both."""
    width, height = size.split("x")
    return int(width), int(height)
