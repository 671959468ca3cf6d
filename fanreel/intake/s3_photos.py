"""The photos that a job names in S3: objects, those of a folder, those that a pattern matches."""

from __future__ import annotations

import glob
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from fanreel.errors import FanreelError
from fanreel.intake.folders import composed, same_name
from fanreel.intake.listing import Found, Listing, NamedPhoto, fixed_parts, sort_out
from fanreel.photos.names import is_photo_name, natural_order
from fanreel.remote.locations import check_allowed
from fanreel.remote.s3_uri import S3Object, S3Uri, parse_s3_uri
from fanreel.settings import Settings

__all__ = ["list_s3", "name_s3"]

# Importing boto3 takes half a second, which a job without S3 must not wait for.


def list_s3(name: str, *, settings: Settings) -> Listing:
    """Return what an entry of `photos` names; what exists under this very name is no pattern.

    Raises:
        NotAllowedError: It leads where this host's jobs may not read.
        StorageError: The server does not answer, or refuses.
    """
    check_allowed(name, settings=settings)
    uri = parse_s3_uri(name)
    if name.endswith("/"):
        return sort_out(_in_folder(uri, name))
    if not glob.has_magic(uri.key):
        return Listing((name_s3(name, settings=settings),))
    from fanreel.remote.s3 import s3

    if found := s3().head(uri):
        return Listing((NamedPhoto(name, found),))
    return sort_out(_matching(uri, name, settings))


def name_s3(name: str, *, settings: Settings) -> NamedPhoto:
    """Return the object that a job names, in whatever Unicode composition its key is."""
    if name.isascii() or name.endswith("/"):
        return NamedPhoto(name)
    from fanreel.remote.s3 import s3

    try:
        check_allowed(name, settings=settings)
        uri = parse_s3_uri(name)
        if found := s3().head(uri):
            return NamedPhoto(name, found)
        others = {str(other): other for other in _compositions(uri)}
        objects = {text: s3().head(other) for text, other in others.items()}
        text = same_name(name, (text for text, found in objects.items() if found), shown=name)
    except FanreelError as error:
        return NamedPhoto(name, error=error)
    return NamedPhoto(text or name, objects.get(text))


def _in_folder(uri: S3Uri, name: str) -> Found:
    folder, objects = _list(uri)
    start = len(f"{folder.key}/" if folder.key else "")
    direct = {str(found.uri): found for found in objects if "/" not in found.uri.key[start:]}
    below = [found.uri.key[start:] for found in objects if str(found.uri) not in direct]
    visible = (key for key in below if is_photo_name(key) and not any(part.startswith(".") for part in key.split("/")))
    counts = Counter(key.partition("/")[0] for key in visible)
    nested = {f"{folder / part}/": counts[part] for part in sorted(counts, key=natural_order)}
    return Found(f"{folder}/", name, _ordered(direct), objects=direct, nested=nested)


def _matching(uri: S3Uri, name: str, settings: Settings) -> Found:
    parts = uri.key.split("/")
    fixed = fixed_parts(parts)
    start = S3Uri(uri.bucket, "/".join(fixed))
    check_allowed(f"{str(start).rstrip('/')}/", settings=settings)
    folder, objects = _list(start)
    skipped = len(folder.key.split("/")) if fixed else 0
    pattern = parts[len(fixed) :]
    found = {str(each.uri): each for each in objects if _matches(each.uri.key.split("/")[skipped:], pattern)}
    return Found(str(uri), name, _ordered(found), objects=found, is_pattern=True)


def _list(folder: S3Uri) -> tuple[S3Uri, list[S3Object]]:
    """Return the objects below a folder, and the folder in the Unicode composition that has some."""
    from fanreel.remote.s3 import s3

    for found in (folder, *_compositions(folder)):
        # A key that ends in a slash is an empty object that stands for a folder.
        if objects := [each for each in s3().list(found) if not each.uri.key.endswith("/")]:
            return found, objects
    return folder, []


def _compositions(uri: S3Uri) -> Iterator[S3Uri]:
    """Yield the URI in the Unicode compositions that it is not in."""
    keys = {unicodedata.normalize("NFC", uri.key), unicodedata.normalize("NFD", uri.key)}
    return (S3Uri(uri.bucket, key) for key in sorted(keys - {uri.key}))


def _ordered(found: dict[str, S3Object]) -> list[str]:
    return sorted(found, key=natural_order)


def _matches(key: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether the parts of a key match those of a pattern, as paths do: `**` is any number of folders."""
    wanted = [*pattern, "*"] if pattern[-1] == "**" else pattern

    def with_empty_stars(states: Iterable[int]) -> set[int]:
        reached = set(states)
        for state in range(len(wanted)):
            if state in reached and wanted[state] == "**":
                reached.add(state + 1)
        return reached

    states = with_empty_stars({0})  # how many parts of the pattern may be used up
    for part in key:
        usable = [state for state in states if state < len(wanted) and _may_match(part, wanted[state])]
        states = with_empty_stars(state + (wanted[state] != "**") for state in usable)
    return len(wanted) in states


def _may_match(part: str, wanted: str) -> bool:
    if part.startswith(".") and not wanted.startswith("."):
        return False
    return wanted == "**" or fnmatchcase(composed(part), composed(wanted))
