"""What photos are called, and in which order people expect them."""

from __future__ import annotations

import re
from pathlib import PurePath

__all__ = ["PHOTO_SUFFIXES", "is_photo_name", "natural_order"]

PHOTO_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".heic", ".heif", ".hif", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"}
)


def is_photo_name(name: str) -> bool:
    """Return whether a file of this name is taken for a photo; `._photo.jpg` holds what macOS notes about one."""
    path = PurePath(name)
    return path.suffix.lower() in PHOTO_SUFFIXES and not path.name.startswith(".")


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Return a key under which photo2 comes before photo10."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
