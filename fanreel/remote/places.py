"""Places: what a job names, which may be paths of this machine, `s3://` and `http(s)://` addresses.

Where the operator gives roots (`Settings.roots`), a job reads and publishes inside of them only. Public web addresses
are no place of this host: `fanreel.remote.web` bounds them, and roots only where one is a web address itself.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from fanreel.errors import InvalidJobError, NotAllowedError
from fanreel.remote.s3_uri import parse_s3
from fanreel.settings import Settings

__all__ = ["WEB", "check_place", "scheme_of", "shown_place"]

WEB = ("http", "https")
"""The schemes of web addresses."""

_SLIPPERY = re.compile(r"//|\\|%2e|%2f|%5c", re.IGNORECASE)
"""What one server takes for a step to another folder and the next one for a letter."""


def scheme_of(place: str) -> str:
    """Return `s3`, `http` or `https`; nothing for a path of this machine.

    Raises:
        InvalidJobError: It is an address of another kind.
    """
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", place)
    scheme = found[1].lower() if found else ""
    if scheme and scheme not in ("s3", *WEB):
        raise InvalidJobError(f"{shown_place(place)}: files, s3:// and http(s):// can be read, not {scheme}://")
    return scheme


def shown_place(place: str) -> str:
    """Return the place as one line for people; of an address neither user nor query, which may be secret."""
    scheme, found, rest = place.partition("://")
    if found:
        authority, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
        # A key of S3 may hold any letter; a query it never has.
        path = rest.partition("/")[2] if scheme.lower() == "s3" else path
        place = f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
    text = os.fsencode(place).decode(errors="backslashreplace")
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def check_place(settings: Settings, place: str) -> None:
    """Return if jobs may read from this place, and publish to it. Tells nothing of whether it exists.

    Args:
        settings: Its roots; none allow any place.
        place: An absolute path, of which links are followed, or an address; a folder in S3 ends with a slash.

    Raises:
        NotAllowedError: They may not.
    """
    scheme = scheme_of(place)
    roots = [root for root in settings.roots if scheme not in WEB or root.startswith(WEB)]
    if not settings.roots or (scheme in WEB and not roots):
        return
    lies_in = {"": _is_path_in, "s3": _is_key_in}.get(scheme, _is_page_in)
    if not any(lies_in(place, root) for root in roots):
        allowed = ", ".join(settings.roots)
        raise NotAllowedError(f"{shown_place(place)}: not inside of what this host allows (FANREEL_ROOTS: {allowed})")


def _is_path_in(place: str, root: str) -> bool:
    if "://" in root:
        return False
    try:
        return Path(os.path.realpath(place)).is_relative_to(os.path.realpath(root))
    except ValueError:  # a zero byte
        return False


def _is_key_in(place: str, root: str) -> bool:
    if not root.startswith("s3://"):
        return False
    inner, outer = parse_s3(place), parse_s3(root)
    if inner.bucket != outer.bucket or "//" in place.partition("://")[2]:
        return False
    if inner.key == outer.key:
        return place.endswith("/")  # the folder, not an object of its name beside it
    return not outer.key or inner.key.startswith(f"{outer.key}/")


def _is_page_in(place: str, root: str) -> bool:
    inner, outer = urlsplit(place), urlsplit(root)
    if (inner.scheme.lower(), inner.netloc.lower()) != (outer.scheme, outer.netloc.lower()):
        return False
    if {".", ".."} & set(inner.path.split("/")) or _SLIPPERY.search(inner.path):
        return False
    return inner.path.startswith(f"{outer.path.rstrip('/')}/")
