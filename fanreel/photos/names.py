"""What photos and the files beside them are called, and in which order people expect them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath

__all__ = [
    "HEIF_SUFFIXES",
    "JPEG_SUFFIXES",
    "PHOTO_SUFFIXES",
    "RAW_SUFFIXES",
    "FileKind",
    "NameOrder",
    "is_photo_name",
    "kind_of_name",
    "natural_order",
    "split_suffix",
    "why_not_read",
]

JPEG_SUFFIXES = frozenset({".jfif", ".jpe", ".jpeg", ".jpg", ".pjp", ".pjpeg"})
HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})

PHOTO_SUFFIXES = JPEG_SUFFIXES | HEIF_SUFFIXES | {".avif", ".bmp", ".gif", ".mpo", ".png", ".tif", ".tiff", ".webp"}

RAW_SUFFIXES = frozenset(
    {
        *(".3fr", ".arw", ".bay", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".k25"),
        *(".kdc", ".mdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl"),
        *(".sr2", ".srf", ".srw", ".x3f"),
    }
)
"""What cameras call the data of their sensors."""

VIDEO_SUFFIXES = frozenset(
    {
        *(".3g2", ".3gp", ".avi", ".insv", ".lrv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp", ".mp4", ".mpeg", ".mpg"),
        *(".mts", ".ogv", ".webm", ".wmv"),
    }
)
"""`.mp` is the moving part of a Pixel's photo, as Google's export has it."""

_OTHER_PICTURES: Mapping[str, str] = {
    **dict.fromkeys((".jxl",), "JPEG XL"),
    **dict.fromkeys((".j2c", ".j2k", ".jp2", ".jpf", ".jpx"), "JPEG 2000"),
    **dict.fromkeys((".hdp", ".jxr", ".wdp"), "JPEG XR"),
    **dict.fromkeys((".ai", ".eps", ".svg", ".svgz"), "a drawing"),
    **dict.fromkeys((".afphoto", ".kra", ".ora", ".psb", ".psd", ".xcf"), "an editor's own file"),
    **dict.fromkeys((".exr", ".hdr"), "a picture of light"),
    **dict.fromkeys((".pbm", ".pcx", ".pgm", ".pnm", ".ppm", ".tga"), "a picture of a kind that is not read"),
}


class FileKind(Enum):
    """What a file is by its name.

    Attributes:
        PHOTO: A photo of a kind that is read.
        OTHER_PICTURE: A picture of another kind, RAW files included.
        VIDEO: A video.
        OTHER: Something else, or nothing that a name says.
        HIDDEN: What its system hides: `._photo.jpg` holds what macOS notes about a photo.
    """

    PHOTO = "photo"
    OTHER_PICTURE = "other picture"
    VIDEO = "video"
    OTHER = "other"
    HIDDEN = "hidden"


def kind_of_name(name: str) -> FileKind:
    """Return what a file is by its name; in a path, the last part counts."""
    suffix = split_suffix(name)[1]
    if PurePath(name).name.startswith("."):
        return FileKind.HIDDEN
    if suffix in PHOTO_SUFFIXES:
        return FileKind.PHOTO
    if suffix in RAW_SUFFIXES or suffix in _OTHER_PICTURES:
        return FileKind.OTHER_PICTURE
    return FileKind.VIDEO if suffix in VIDEO_SUFFIXES else FileKind.OTHER


def is_photo_name(name: str) -> bool:
    """Return whether a file of this name is taken for a photo."""
    return kind_of_name(name) is FileKind.PHOTO


def why_not_read(name: str) -> str:
    """Return why a file of the kind `OTHER_PICTURE` is not taken for a photo, and what to do about it."""
    suffix = split_suffix(name)[1]
    if suffix in RAW_SUFFIXES:
        return f"a RAW photo; *{suffix} shows its preview, if that is large enough, or develop it to JPEG or TIFF"
    return f"{_OTHER_PICTURES[suffix]}; save it as JPEG, PNG or TIFF"


def split_suffix(name: str) -> tuple[str, str]:
    """Return a file's name without folder and suffix, and its suffix in small letters.

    Blanks at the name's end, which copying from mails and scripts leaves there, belong to neither.
    """
    path = PurePath(PurePath(name).name.rstrip())
    return path.stem, path.suffix.lower()


NameOrder = tuple[list[tuple[list[str | int], list[str | int]]], str]


def natural_order(name: str) -> NameOrder:
    """Return a key for sorting: photo2 before photo10, capitals among small letters, a name before its copies.

    Args:
        name: A name, or a path with ``/`` between its parts, which are compared part by part.
    """
    parts = [PurePath(part) for part in name.split("/")]
    return [(_natural(part.stem), _natural(part.suffix)) for part in parts], name


def _natural(text: str) -> list[str | int]:
    """Return texts and numbers in turns, the first one a text."""
    folded = unicodedata.normalize("NFC", text).casefold()
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", folded)]
