"""PNG's chunks: what they say of the picture, and a file without those that decoders need not see.

Programs write prompts and work flows of many MB into a PNG as text. Pillow and libpng refuse long text and long
profiles, whatever the pixels are. Source: PNG, third edition, 5.3 and 11.3.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from fanreel.colour.signals import ColourSignal

__all__ = ["bare_png", "png_exif", "png_profile", "png_signal", "reaches_png_end"]

_NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_LARGEST_PROFILE_BYTES = 1 << 25  # the largest of presses have 4 MB
_KEYWORD_BYTES = 79


def reaches_png_end(data: bytes) -> bool:
    """Return whether all chunks up to the last one are there."""
    return any(name == b"IEND" for name, _, _ in _chunks(data))


def bare_png(data: bytes) -> bytes:
    """Return the file without text, profile, EXIF, and all pictures of an animation but the one of its pixel chunks."""
    kept, start = [], 0
    for name, content, end in _chunks(data):
        if name not in _NEEDED:
            kept.append(data[start : content - 8])
            start = end
    return b"".join((*kept, data[start:])) if kept else data


def png_exif(data: bytes) -> bytes:
    """Return its block of EXIF; empty if it has none."""
    return next((data[start : end - 4] for name, start, end in _chunks(data) if name == b"eXIf"), b"")


def png_signal(data: bytes) -> ColourSignal | None:
    """Return the code points of its colours; None if it says none, or stores colours that are no RGB."""
    content = _before_pixels(data, b"cICP") or b""
    return ColourSignal(content[0], content[1]) if len(content) == 4 and content[2] == 0 else None


def png_profile(data: bytes) -> bytes | None:
    """Return its ICC profile; None if it has none, or one that cannot be unpacked."""
    content = _before_pixels(data, b"iCCP")
    behind_name = content.find(b"\0", 0, _KEYWORD_BYTES + 1) if content else -1
    if content is None or behind_name < 0:
        return None
    try:
        unpacked = zlib.decompressobj().decompress(content[behind_name + 2 :], _LARGEST_PROFILE_BYTES)
    except zlib.error:
        return None
    return unpacked or None


def _before_pixels(data: bytes, wanted: bytes) -> bytes | None:
    """Return the content of the first chunk of a name, where there is one before the pixels."""
    for name, start, end in _chunks(data):
        if name in (wanted, b"IDAT"):
            return data[start : end - 4] if name == wanted else None
    return None


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start of the content and end of each whole chunk."""
    place = 8
    while place + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if end > len(data):
            return
        yield name, place + 8, end
        place = end
