"""Places in S3: buckets, keys, and what is known of an object. Knows no client, which takes half a second to import."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from fanreel.errors import InvalidJobError

__all__ = ["S3Object", "S3Place", "parse_s3"]

LONGEST_KEY_BYTES = 1024


@dataclass(frozen=True, slots=True)
class S3Place:
    """Where an object is, or a folder of them; as text, its URL.

    Attributes:
        bucket: Name of the bucket.
        key: The object's name in it; a folder's has no slash at its end, and the bucket's own is empty.
    """

    bucket: str
    key: str

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition("/")[2]

    def __truediv__(self, name: str) -> S3Place:
        """Return the place of this name below this one."""
        return S3Place(self.bucket, f"{self.key}/{name}" if self.key else name)

    def __str__(self) -> str:
        """Return the URL."""
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True)
class S3Object:
    """What is known of an object without its bytes.

    Attributes:
        place: Where it is.
        size_bytes: Its length.
        modified_at: When it was written, by the server's clock; with a time zone.
        metadata: What its writer said of it; empty in a listing.
        etag: What the server calls these bytes: another name for others.
    """

    place: S3Place
    size_bytes: int
    modified_at: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)
    etag: str = ""


def parse_s3(url: str) -> S3Place:
    """Return the place that a URL names.

    Raises:
        InvalidJobError: It names none, or one that some servers take for another.
    """
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    key = key.rstrip("/")
    shown = f"{scheme}://...@{rest.rpartition('@')[2]}" if "@" in rest and ":" in bucket else url
    if scheme != "s3" or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}", bucket):
        raise InvalidJobError(f"{shown!r} is no place in S3; s3://bucket/key, with credentials in the environment")
    if {".", ".."} & set(key.split("/")) or re.search(r"[\x00-\x1f\x7f]", key):
        raise InvalidJobError(f"{shown!r} is not allowed; a key without `.` and `..` as parts and control characters")
    try:
        if len(key.encode()) > LONGEST_KEY_BYTES:
            raise InvalidJobError(f"{shown[:80]!r}... is not allowed; a key has up to {LONGEST_KEY_BYTES} bytes")
    except UnicodeEncodeError:
        raise InvalidJobError(f"{shown!a} is not allowed; a key is UTF-8") from None
    return S3Place(bucket, key)
