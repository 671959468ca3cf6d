"""What becomes of the files in a folder, or of those that a pattern matches: shown, one of a pair, or left out.

One rule for this machine and for S3. Files are known by their names. What looks like a picture and is not read,
videos, and sub-folders that hold photos are told as left out; what is hidden, and all else, is passed over.
"""

from __future__ import annotations

import glob
import itertools
import posixpath
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath

from fanreel.errors import FanreelError, PhotoNotFoundError
from fanreel.intake.pairs import Pair, find_pairs
from fanreel.photos.names import PHOTO_SUFFIXES, FileKind, kind_of_name, why_not_read
from fanreel.printable import counted, printable
from fanreel.remote.s3_uri import S3Object

__all__ = [
    "Found",
    "Listing",
    "NamedPhoto",
    "fixed_parts",
    "has_literal_suffix",
    "one_of_each_pair",
    "sort_out",
    "why_unread",
]

MOST_EXAMPLES = 3
"""Most things that one line names as examples."""


@dataclass(frozen=True, slots=True)
class NamedPhoto:
    """A photo that a job names.

    Attributes:
        location: An absolute path or a URI.
        listed: What a listing of its folder in S3 said about it.
        error: Why it cannot be read, if that is known already.
    """

    location: str
    listed: S3Object | None = None
    error: FanreelError | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """What an entry of `photos` names.

    Attributes:
        photos: Its photos, in order; one with an error where there are none.
        is_choice: They come from a folder or a pattern; none was named by itself.
        unread: Locations of pictures of kinds that are not read.
        left_out: What else was left out, one line each.
    """

    photos: tuple[NamedPhoto, ...]
    is_choice: bool = False
    unread: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """The files that an entry of `photos` leads to.

    Attributes:
        location: The folder or the pattern.
        asked: The same, as the job has it.
        files: Locations of the files, in natural order.
        objects: What a listing in S3 said about them, by location.
        nested: Numbers of photos in sub-folders, by location; only of a folder, not of a pattern.
        left_out: What was left out on the way, one line each.
        is_pattern: They match a pattern.
    """

    location: str
    asked: str
    files: Sequence[str]
    objects: Mapping[str, S3Object] = field(default_factory=dict)
    nested: Mapping[str, int] = field(default_factory=dict)
    left_out: Sequence[str] = ()
    is_pattern: bool = False


def fixed_parts(parts: Sequence[str]) -> list[str]:
    """Return those of a pattern's parts that come before the first one with a wildcard."""
    return list(itertools.takewhile(lambda part: not glob.has_magic(part), parts))


def has_literal_suffix(pattern: str) -> bool:
    """Return whether a pattern says which suffix it wants: then all that it matches is meant to be a photo."""
    suffix = PurePath(pattern).suffix
    return bool(suffix) and not glob.has_magic(suffix)


def sort_out(found: Found) -> Listing:
    """Return which of the files are photos, and what is left out."""
    shown, of_kind = printable(found.location), defaultdict[FileKind, list[str]](list)
    is_literal = found.is_pattern and has_literal_suffix(found.asked)
    for file in found.files:
        of_kind[FileKind.PHOTO if is_literal else kind_of_name(file)].append(file)
    photos, videos = of_kind[FileKind.PHOTO], len(of_kind[FileKind.VIDEO])
    unread, left_out = tuple(of_kind[FileKind.OTHER_PICTURE]), list(found.left_out)
    if videos:
        left_out.append(f"{shown}: {counted(videos, 'video')}; not in a slideshow yet")
    for folder, count in found.nested.items():
        takes_all = printable(found.asked.rstrip("/") + "/**")
        left_out.append(f"{printable(folder)}: a sub-folder with {counted(count, 'photo')}; {takes_all} takes all")
    if photos:
        named = (NamedPhoto(file, found.objects.get(file)) for file in photos)
        return Listing(tuple(named), is_choice=True, unread=unread, left_out=tuple(left_out))
    what = "matches no photo" if found.files else "matches no file"
    if not found.is_pattern:
        what = f"the folder holds no photo ({', '.join(sorted(PHOTO_SUFFIXES))})"
    lines = [*why_unread(unread), *left_out]
    more = f"; left out: {_examples(lines)}" if lines else ""
    return Listing((NamedPhoto(found.location, error=PhotoNotFoundError(f"{shown}: {what}{more}")),))


def why_unread(locations: Sequence[str]) -> list[str]:
    """Return a line for each picture of a kind that is not read."""
    return [f"{printable(location)}: {why_not_read(location)}" for location in locations]


def one_of_each_pair(listings: Sequence[Listing]) -> tuple[list[Listing], tuple[str, ...]]:
    """Return the listings with one file of each picture, and which these are, one line a folder.

    A photo that the job names by itself is shown, and decides nothing about others.
    """
    choices = [listing for listing in listings if listing.is_choice]
    locations = {photo.location for listing in choices for photo in listing.photos}
    pairs = find_pairs(locations.union(*(listing.unread for listing in choices)))
    others = {name for pair in pairs for name in pair.others}

    def chosen(listing: Listing) -> Listing:
        photos = tuple(photo for photo in listing.photos if photo.location not in others)
        return replace(listing, photos=photos, unread=tuple(name for name in listing.unread if name not in others))

    by_folder: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_folder[posixpath.dirname(pair.shown[0])].append(pair)
    notes = tuple(f"{printable(folder)}: {_describe(inside)}" for folder, inside in by_folder.items())
    return [chosen(listing) if listing.is_choice else listing for listing in listings], notes


def _describe(pairs: Sequence[Pair]) -> str:
    """Return which file is shown of pictures that are there in several."""
    count = "1 photo is" if len(pairs) == 1 else f"{len(pairs)} photos are"
    which = _examples([f"{_names(pair.shown)}, not {_names(pair.others)}" for pair in pairs])
    return f"{count} there in several files, of which one is shown ({which}); `pairs: all` shows all"


def _names(locations: Sequence[str]) -> str:
    return printable(" or ".join(posixpath.basename(location) for location in locations))


def _examples(texts: Sequence[str]) -> str:
    more = len(texts) - MOST_EXAMPLES
    return "; ".join([*texts[:MOST_EXAMPLES], *([f"{more} more"] if more > 0 else [])])
