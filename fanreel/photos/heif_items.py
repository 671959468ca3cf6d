"""What the boxes of HEIF and AVIF say of the main picture, and decoders keep for themselves: colours and depth.

Source: ISO/IEC 23008-12, 6.5 and 9.3; ISO/IEC 14496-12, 8.11.4, 8.11.14 and 12.1.5; AV1-ISOBMFF, 2.3.3.
"""

from __future__ import annotations

import struct

from fanreel.colour.signals import ColourSignal
from fanreel.photos.structure import boxes

__all__ = ["bare_avif", "main_picture_bits", "main_picture_signal"]


def main_picture_signal(data: bytes) -> ColourSignal | None:
    """Return the code points of its colours; None if it says none."""
    for kind, content in _properties(data):
        if kind == b"colr" and content[:4] == b"nclx":
            return ColourSignal(*struct.unpack_from(">HH", content, 4))
    return None


def main_picture_bits(data: bytes) -> int:
    """Return how many bits a sample has; 8 if nothing says it."""
    properties = dict(reversed(_properties(data)))
    if b"pixi" in properties:
        return max(properties[b"pixi"][5:], default=8)
    flags = properties.get(b"av1C", bytes(4))[2]
    return (12 if flags & 0x20 else 10) if flags & 0x40 else 8


def bare_avif(data: bytes) -> bytes:
    """Return the file with no item of the kind of EXIF: Pillow opens none whose EXIF is damaged.

    Nothing is lost by it: an AVIF is turned by its own boxes. Source: ISO/IEC 14496-12, 8.11.6.
    """
    try:
        start, end = next((start + 4, end) for kind, start, end in boxes(data, 0, len(data)) if kind == b"meta")
        start, end = next((start, end) for kind, start, end in boxes(data, start, end) if kind == b"iinf")
        infos = [info for _, info, _ in boxes(data, start + (8 if data[start] else 6), end)]
        places = [info + (10 if data[info] > 2 else 8) for info in infos]
    except (StopIteration, IndexError, struct.error):
        return data
    for place in places:
        if data[place : place + 4] == b"Exif":
            data = b"".join((data[:place], b"skip", data[place + 4 :]))
    return data


def _properties(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return kind and content of each property of the main picture; none if the boxes do not hold together."""
    try:
        meta = next((start + 4, end) for kind, start, end in boxes(data, 0, len(data)) if kind == b"meta")
        inner = {kind: (start, end) for kind, start, end in boxes(data, *meta)}
        start, _ = inner[b"pitm"]
        (main,) = struct.unpack_from(">I" if data[start] else ">H", data, start + 4)
        parts = {kind: (start, end) for kind, start, end in boxes(data, *inner[b"iprp"])}
        held = [(kind, data[start:end]) for kind, start, end in boxes(data, *parts[b"ipco"])]
        return [held[index - 1] for index in _linked(data, parts[b"ipma"][0], main) if 0 < index <= len(held)]
    except (StopIteration, LookupError, struct.error):
        return []


def _linked(data: bytes, place: int, item: int) -> list[int]:
    """Return the numbers of an item's properties, from 1."""
    version, is_wide = data[place], data[place + 3] & 1
    (count,) = struct.unpack_from(">I", data, place + 4)
    place += 8
    identity, number = struct.Struct(">I" if version else ">H"), struct.Struct(">H" if is_wide else ">B")
    for _ in range(count):
        (found,) = identity.unpack_from(data, place)
        place += identity.size
        links = data[place]
        place += 1
        if found == item:
            most = 0x7FFF if is_wide else 0x7F  # the first bit says that a reader must know the property
            return [number.unpack_from(data, place + n * number.size)[0] & most for n in range(links)]
        place += links * number.size
    return []
