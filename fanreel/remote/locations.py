"""Locations that jobs name: paths of this machine, ``s3://`` URIs and ``http(s)://`` URLs.

Where the operator sets roots (`Settings.roots`), jobs read and publish inside of these roots only. A web URL is
checked against the roots only if one of them is a web URL; what bounds all downloads is `fanreel.remote.web_download`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from fanreel.errors import InvalidJobError, NotAllowedError
from fanreel.printable import printable
from fanreel.remote.s3_uri import parse_s3_uri
from fanreel.settings import Settings

__all__ = ["WEB", "check_allowed", "scheme_of", "shown_location"]

WEB = ("http", "https")
"""The schemes of web addresses."""

_SLIPPERY = re.compile(r"//|\\|%2e|%2f|%5c", re.IGNORECASE)
"""Characters of a URL's path that some servers read as a step to another folder, and others as plain characters."""


def scheme_of(location: str) -> str:
    """Return `s3`, `http` or `https`; an empty string for a path of this machine.

    Raises:
        InvalidJobError: The location has another scheme.
    """
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", location)
    scheme = found[1].lower() if found else ""
    if scheme and scheme not in ("s3", *WEB):
        raise InvalidJobError(f"{shown_location(location)}: files, s3:// and http(s):// can be read, not {scheme}://")
    return scheme


def shown_location(location: str) -> str:
    """Return the location as one printable line, without a URL's user and query, which may be secret."""
    scheme, found, rest = location.partition("://")
    if found:
        authority, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
        # The key of an S3 object may contain `?` and `#`; an S3 URI has no query.
        path = rest.partition("/")[2] if scheme.lower() == "s3" else path
        location = f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
    return printable(location)


def check_allowed(location: str, *, settings: Settings) -> None:
    """Raise an error unless jobs may read from this location and publish to it. Does not look whether it exists.

    Args:
        location: An absolute path, whose links are followed, or a URI; that of a folder in S3 ends with a slash.
        settings: Their roots are what is allowed; without roots, every location is.

    Raises:
        NotAllowedError: The location is outside of the roots.
    """
    scheme = scheme_of(location)
    roots = [root for root in settings.roots if scheme not in WEB or root.startswith(WEB)]
    if not settings.roots or (scheme in WEB and not roots):
        return
    lies_in = {"": _is_path_in, "s3": _is_object_in}.get(scheme, _is_url_in)
    if not any(lies_in(location, root) for root in roots):
        allowed = f"(FANREEL_ROOTS: {', '.join(settings.roots)})"
        raise NotAllowedError(f"{shown_location(location)}: outside of the folders that this host allows {allowed}")


def _is_path_in(path: str, root: str) -> bool:
    if "://" in root:
        return False
    try:
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))
    except ValueError:  # a zero byte
        return False


def _is_object_in(uri: str, root: str) -> bool:
    if not root.startswith("s3://"):
        return False
    inner, outer = parse_s3_uri(uri), parse_s3_uri(root)
    if inner.bucket != outer.bucket or "//" in uri.partition("://")[2]:
        return False
    if inner.key == outer.key:
        return uri.endswith("/")  # the folder itself, not an object of its name beside it
    return not outer.key or inner.key.startswith(f"{outer.key}/")


def _is_url_in(url: str, root: str) -> bool:
    inner, outer = urlsplit(url), urlsplit(root)
    if (inner.scheme.lower(), inner.netloc.lower()) != (outer.scheme, outer.netloc.lower()):
        return False
    if {".", ".."} & set(inner.path.split("/")) or _SLIPPERY.search(inner.path):
        return False
    return inner.path.startswith(f"{outer.path.rstrip('/')}/")
