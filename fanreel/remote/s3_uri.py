"""S3 URIs, and what a server says about an object. Does not import boto3, which takes half a second."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from fanreel.errors import InvalidJobError

__all__ = ["S3Object", "S3Uri", "parse_s3_uri"]

LONGEST_KEY_BYTES = 1024


@dataclass(frozen=True, slots=True)
class S3Uri:
    """The URI of an object, or of a folder of objects; `str` returns it as text.

    Attributes:
        bucket: Name of the bucket.
        key: The object's name in the bucket. A folder's key has no slash at its end; the whole bucket's is empty.
    """

    bucket: str
    key: str

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition("/")[2]

    def __truediv__(self, name: str) -> S3Uri:
        """Return the URI of `name` below this one."""
        return S3Uri(self.bucket, f"{self.key}/{name}" if self.key else name)

    def __str__(self) -> str:
        """Return the URI as text."""
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True)
class S3Object:
    """What the server says about an object, without its bytes.

    Attributes:
        uri: The object's URI.
        size_bytes: Its size.
        modified_at: When it was written, by the server's clock; with a time zone.
        metadata: The metadata that its writer gave it; empty in a listing.
        etag: The server's identifier of these bytes; other bytes have another one.
    """

    uri: S3Uri
    size_bytes: int
    modified_at: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)
    etag: str = ""


def parse_s3_uri(text: str) -> S3Uri:
    """Return the S3 URI that `text` is.

    Raises:
        InvalidJobError: It is none, or servers differ in which object they take it for.
    """
    scheme, _, rest = text.partition("://")
    bucket, _, key = rest.partition("/")
    key = key.rstrip("/")
    shown = f"{scheme}://...@{rest.rpartition('@')[2]}" if "@" in rest and ":" in bucket else text
    if scheme != "s3" or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}", bucket):
        raise InvalidJobError(f"{shown!r} is not an S3 URI; write s3://bucket/key, with credentials in the environment")
    if {".", ".."} & set(key.split("/")) or re.search(r"[\x00-\x1f\x7f]", key):
        raise InvalidJobError(f"{shown!r} is not allowed; a key has no part `.` or `..`, and no control characters")
    try:
        if len(key.encode()) > LONGEST_KEY_BYTES:
            raise InvalidJobError(f"{shown[:80]!r}... is not allowed; a key has up to {LONGEST_KEY_BYTES} bytes")
    except UnicodeEncodeError:
        raise InvalidJobError(f"{shown!a} is not allowed; a key is UTF-8") from None
    return S3Uri(bucket, key)
