"""Pictures that a phone or a camera keeps in several files: which file of each is shown."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from fanreel.photos.names import HEIF_SUFFIXES, JPEG_SUFFIXES, RAW_SUFFIXES, natural_order, split_suffix

__all__ = ["Pair", "find_pairs"]

_EDITED = re.compile(r"img_e(\d+.*)")
"""How an iPhone calls its edited version of IMG_1: IMG_E1."""

_MOVING = re.compile(r"mvimg_(.+)")
"""How a Pixel once called a still with a video behind it: MVIMG_1.jpg, beside IMG_1.jpg."""

_PIXEL_ENDS = re.compile(r"(\.raw-\d+)?(\.mp)?(\.cover|\.original)?$")
"""What a Pixel adds: PXL_1.MP.jpg has a video; PXL_1.RAW-01.COVER.jpg, PXL_1.RAW-02.ORIGINAL.dng are one picture."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One picture in several files.

    Attributes:
        shown: The file that is shown; several if their names differ in nothing that the rule knows.
        others: The files that are not shown.
    """

    shown: tuple[str, ...]
    others: tuple[str, ...]


def find_pairs(names: Iterable[str]) -> list[Pair]:
    """Return the pictures of which there are several files, in natural order.

    The edited version is shown rather than its original, HEIC rather than JPEG, either rather than RAW, and a still
    rather than one with a video behind it. Files of other kinds, and in other folders, are pictures of their own.

    Args:
        names: Paths or URIs, each once.
    """
    pictures: dict[tuple[str, str], list[tuple[_Rank, str]]] = defaultdict(list)
    for name in sorted(names, key=natural_order):
        stem, suffix = split_suffix(name)
        if suffix in HEIF_SUFFIXES | JPEG_SUFFIXES | RAW_SUFFIXES:
            picture, rank = _rank(stem.casefold(), suffix)
            pictures[posixpath.dirname(name), picture].append((rank, name))
    pairs = map(_pair, pictures.values())
    return [pair for pair in pairs if pair.others and split_suffix(pair.shown[0])[1] not in RAW_SUFFIXES]


_Rank = tuple[bool, bool, bool, bool]
"""Of two files of one picture the one with the smaller rank is shown."""


def _rank(stem: str, suffix: str) -> tuple[str, _Rank]:
    """Return what the files of one picture have in common, and the rank of one of them."""
    edited, moving = _EDITED.fullmatch(stem), _MOVING.fullmatch(stem)
    numbered = edited or moving
    picture = f"img_{numbered[1]}" if numbered else stem
    short = _PIXEL_ENDS.sub("", picture) if picture.startswith("pxl_") else picture
    is_moving = bool(moving) or short != picture
    return short, (suffix in RAW_SUFFIXES, not edited, suffix in JPEG_SUFFIXES, is_moving)


def _pair(files: list[tuple[_Rank, str]]) -> Pair:
    best = min(rank for rank, _ in files)
    shown = tuple(name for rank, name in files if rank == best)
    return Pair(shown, tuple(name for rank, name in files if rank != best))
