"""What a clip can show: the kinds of content, and what the rest of the engine asks of every kind.

A new kind is a class here, a member of `Content`, and a module in draw/ that draws it. Nothing else names the kinds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import Field

from fanreel.plan.camera import CameraPath, Rect
from fanreel.printable import printable

__all__ = ["BlurredCopy", "ColourContent", "Content", "Photo", "StillContent"]


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo as the plan knows it: its content, not its place.

    Attributes:
        digest: BLAKE3 of the file's bytes, 64 hexadecimal digits.
        width_px: Width of the upright photo (its orientation applied).
        height_px: Height of the upright photo.
        preview_of: What a RAW photo is called, as DNG, whose preview stands for it; else empty.
    """

    digest: str
    width_px: int
    height_px: int
    preview_of: str = ""

    @property
    def size_px(self) -> tuple[int, int]:
        """Its width and its height."""
        return self.width_px, self.height_px


class _AnyContent(ABC):
    """What every kind of content answers.

    Its pictures depend on it, on the frame's index in it and on its frame count: on no clip and no neighbour.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def source_digests(self) -> tuple[str, ...]:
        """Digests of the files that its pictures are made from."""

    @property
    @abstractmethod
    def decoded_px(self) -> int:
        """Pixels that are decoded at once to make its pictures."""

    @abstractmethod
    def digest_parts(self) -> list[Any]:
        """Return all that decides its pictures, as JSON values; the first one names the kind."""

    @abstractmethod
    def label(self, paths: Mapping[str, str]) -> str:
        """Return what people call it; `paths` says where each source file is, by digest."""


@dataclass(frozen=True, slots=True)
class ColourContent(_AnyContent):
    """One colour all over the frame.

    Attributes:
        rgb: Red, green and blue, each from 0 to 255, in the primaries and transfer of BT.709.
    """

    rgb: tuple[int, int, int]
    kind: Literal["colour"] = "colour"

    @property
    def source_digests(self) -> tuple[str, ...]:
        """None: no file is read for it."""
        return ()

    @property
    def decoded_px(self) -> int:
        """None: nothing is decoded for it."""
        return 0

    def digest_parts(self) -> list[Any]:
        """Return the colour."""
        return ["colour", list(self.rgb)]

    def label(self, paths: Mapping[str, str]) -> str:
        """Return the colour as it is written in HTML."""
        return f"colour #{bytes(self.rgb).hex()}"


@dataclass(frozen=True, slots=True)
class BlurredCopy:
    """The photo itself, blurred and darkened, over the whole frame: a backdrop for its own still."""

    kind: Literal["blur"] = "blur"

    def digest_parts(self) -> list[Any]:
        """Return its name: how it is made from the photo never differs."""
        return [self.kind]


Backdrop = Annotated[ColourContent | BlurredCopy, Field(discriminator="kind")]
"""What lies beside a photo that does not fill the frame."""


@dataclass(frozen=True, slots=True)
class StillContent(_AnyContent):
    """A photo under a move of the camera.

    Attributes:
        photo: What is seen.
        path: From where to where the camera moves.
        backdrop: What is seen beside the photo; None where every view lies inside it.
    """

    photo: Photo
    path: CameraPath
    backdrop: Backdrop | None = None
    kind: Literal["still"] = "still"

    @property
    def source_digests(self) -> tuple[str, ...]:
        """The photo's digest."""
        return (self.photo.digest,)

    @property
    def decoded_px(self) -> int:
        """Pixels of the photo."""
        return self.photo.width_px * self.photo.height_px

    def digest_parts(self) -> list[Any]:
        """Return the photo's digest and the path, to the last bit. The photo's size is in its bytes already."""
        parts = ["photo", self.photo.digest, [_numbers(self.path.start), _numbers(self.path.end)]]
        return [*parts, self.backdrop.digest_parts()] if self.backdrop else parts

    def label(self, paths: Mapping[str, str]) -> str:
        """Return the name of the photo's file."""
        return printable(PurePath(paths[self.photo.digest]).name)


Content = Annotated[StillContent | ColourContent, Field(discriminator="kind")]
"""What a clip shows. In JSON `kind` says which one it is."""


def _numbers(view: Rect) -> list[float]:
    return [view.x0, view.y0, view.x1, view.y1]
