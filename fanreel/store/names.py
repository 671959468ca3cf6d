"""Names in a store, the same in a folder and in S3: paths below its root, with slashes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fanreel.errors import StorageError

SEGMENTS, PLANS, PHOTOS, MANIFESTS = "segments", "plans", "photos", "films"
KEPT_FOLDERS = (SEGMENTS, PLANS, PHOTOS, MANIFESTS)
"""What the machines of a store share."""

DRAFTS, SCRATCH, FETCHED = "drafts", "scratch", "fetched"
"""What each machine has for itself."""

TENANTS = "tenants"
"""Where a folder keeps the store of each tenant, each a folder as above."""

RECORD, VIDEO = ".json", ".mp4"
"""Suffixes of a segment's two files."""

PAYLOAD_DIGITS = 16
"""First digits of the payload's digest, in the name of a segment's file in an object store."""

_DIGEST = "[0-9a-f]{64}"
_PATTERNS = {
    SEGMENTS: re.compile(
        rf"{SEGMENTS}/[0-9a-f]{{2}}/(?P<digest>{_DIGEST})\.(?P<encoder>[a-z0-9-]+)"
        rf"(?:\.(?P<payload>[0-9a-f]{{{PAYLOAD_DIGITS}}}))?(?P<suffix>{re.escape(RECORD)}|{re.escape(VIDEO)})"
    ),
    PHOTOS: re.compile(rf"{PHOTOS}/[0-9a-f]{{2}}/(?P<digest>{_DIGEST})"),
    PLANS: re.compile(rf"{PLANS}/(?P<digest>{_DIGEST})\.json"),
    MANIFESTS: re.compile(rf"{MANIFESTS}/(?P<digest>{_DIGEST})\.json"),
}


@dataclass(frozen=True, slots=True)
class StoredName:
    """What the name of a stored file says.

    Attributes:
        folder: One of `KEPT_FOLDERS`.
        digest: Address of a segment or a plan, digest of a photo; of a manifest the address of its plan.
        encoder: Which encoder made the segment; empty for anything else.
        payload: First digits of the payload's digest; empty unless it is a segment's file in an object store.
        suffix: `RECORD` or `VIDEO` of a segment; empty for anything else.
    """

    folder: str
    digest: str
    encoder: str = ""
    payload: str = ""
    suffix: str = ""


def parse(name: str) -> StoredName | None:
    """Return what a name says, or None if it is none of a store's."""
    folder = name.partition("/")[0]
    match = _PATTERNS[folder].fullmatch(name) if folder in _PATTERNS else None
    return StoredName(folder, **{key: value or "" for key, value in match.groupdict().items()}) if match else None


def record(address: str, encoder: str) -> str:
    """Return the name of a segment's record."""
    # Each encoder has names of its own: jobs that insist on one must not overwrite another's segments for ever.
    return f"{SEGMENTS}/{address[:2]}/{address}.{encoder}{RECORD}"


def segment_file(address: str, encoder: str, *, payload_digest: str = "") -> str:
    """Return the name of a segment's file, with the first digits of its payload's digest if that is given."""
    digits = f".{payload_digest[:PAYLOAD_DIGITS]}" if payload_digest else ""
    return f"{SEGMENTS}/{address[:2]}/{address}.{encoder}{digits}{VIDEO}"


def plan(address: str) -> str:
    """Return the name of a plan."""
    return f"{PLANS}/{_require_digest(address)}.json"


def photo(digest: str) -> str:
    """Return the name of a photo."""
    return f"{PHOTOS}/{_require_digest(digest)[:2]}/{digest}"


def manifest(plan: str) -> str:
    """Return the name of the manifest of the film whose plan has this address."""
    return f"{MANIFESTS}/{_require_digest(plan)}.json"


def _require_digest(digest: str) -> str:
    """Return a digest that may be part of a path, or raise `StorageError`."""
    if not re.fullmatch(_DIGEST, digest):
        raise StorageError(f"{digest[:80]!r} is no digest; 64 hexadecimal digits, as the store's own names have")
    return digest
