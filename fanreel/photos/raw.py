"""RAW photos: what a camera's sensor saw, which is not developed here, and the JPEG previews that lie in them.

Most are TIFFs whose first picture is a thumbnail, so that a TIFF decoder shows that. Source: TIFF 6.0, 2; TIFF
technical note 1 (SubIFDs); Adobe DNG 1.7.1; of other makers, what LibRaw and ExifTool know.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fanreel.photos.structure import is_whole, jpeg_size

__all__ = ["RawPhoto", "find_raw"]

_MAGIC = {
    b"FUJIFILMCCD-RAW ": "RAF", b"IIU\0": "RW2", b"IIRO": "ORF", b"IIRS": "ORF", b"MMOR": "ORF", b"FOVb": "X3F",
    b"\0MRM": "MRW",
}  # fmt: skip
_MAKERS = {b"NIKON": "NEF", b"SONY": "ARW", b"PENTAX": "PEF", b"SAMSUNG": "SRW", b"Canon": "CR2"}

_COMPRESSION, _PHOTOMETRIC, _MAKE, _STRIPS, _ORIENTATION, _STRIP_BYTES = 259, 262, 271, 273, 274, 279
_SUB_DIRECTORIES, _JPEG_PLACE, _JPEG_BYTES, _DNG_VERSION = 330, 513, 514, 50706
_SENSOR = (32803, 34892)  # what one filter or all of a sensor saw, as photometric interpretations
_JPEG_KINDS = (6, 7)
_RAF_HEADER_BYTES, _RAF_JPEG = 100, 84  # where it says place and length of its JPEG
_MOST_DIRECTORIES = 32
_ITEMS = {1: "B", 2: "B", 3: "H", 4: "I", 7: "B", 13: "I"}
_MOST_ITEMS = 64  # of a field; those that matter have fewer


@dataclass(frozen=True, slots=True)
class RawPhoto:
    """A RAW photo.

    Attributes:
        kind: What its makers call it, as DNG.
        preview: Where its largest whole JPEG starts and ends; None if none is known.
        preview_px: Width and height of that, as it is stored; (0, 0) if there is none.
        orientation: What turns it upright, the value of EXIF; None if the preview says it itself.
    """

    kind: str
    preview: tuple[int, int] | None = None
    preview_px: tuple[int, int] = (0, 0)
    orientation: int | None = None


def find_raw(data: bytes) -> RawPhoto | None:
    """Return what is to be known of a RAW photo; None if the file is none."""
    if data[4:12] == b"ftypcrx ":
        return RawPhoto("CR3")
    kind = next((name for magic, name in _MAGIC.items() if data.startswith(magic)), "")
    if kind == "RAF" and len(data) >= _RAF_HEADER_BYTES:
        start, size = struct.unpack_from(">II", data, _RAF_JPEG)
        return _with_preview(data, kind, [(start, start + size)])
    if kind:
        return RawPhoto(kind)
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return None
    directories = list(_directories(data))
    kind = _kind(data, directories) if directories else ""
    if not kind:
        return None
    places = [place for fields in directories if (place := _jpeg_in(fields))]
    return _with_preview(data, kind, places, orientation=directories[0].get(_ORIENTATION, (1,))[0])


def _with_preview(
    data: bytes, kind: str, places: Sequence[tuple[int, int]], *, orientation: int | None = None
) -> RawPhoto:
    """Return a RAW photo with the largest of the JPEGs at some places."""
    sizes = {place: size for place in places if (size := _size(data, place))}
    preview, px = max(sizes.items(), key=lambda each: each[1][0] * each[1][1], default=(None, (0, 0)))
    return RawPhoto(kind, preview, px, orientation)


def _kind(data: bytes, directories: Sequence[Mapping[int, tuple[int, ...]]]) -> str:
    """Return what a TIFF is called as a RAW photo; empty if it is a picture."""
    if any(_DNG_VERSION in fields for fields in directories[:1]):
        return "DNG"
    make = bytes(directories[0].get(_MAKE, ()))
    if data[8:11] == b"CR\2" and make.startswith(b"Canon"):
        return "CR2"
    if not any(fields.get(_PHOTOMETRIC, (0,))[0] in _SENSOR for fields in directories):
        return ""
    return next((kind for maker, kind in _MAKERS.items() if make.startswith(maker)), "RAW")


def _jpeg_in(fields: Mapping[int, tuple[int, ...]]) -> tuple[int, int] | None:
    """Return where the JPEG of a directory starts and ends, if it has one in one piece."""
    if fields.get(_PHOTOMETRIC, (0,))[0] in _SENSOR:
        return None
    if _JPEG_PLACE in fields and _JPEG_BYTES in fields:
        start, size = fields[_JPEG_PLACE][0], fields[_JPEG_BYTES][0]
    elif (
        fields.get(_COMPRESSION, (0,))[0] in _JPEG_KINDS
        and len(fields.get(_STRIPS, ())) == 1
        and _STRIP_BYTES in fields
    ):
        start, size = fields[_STRIPS][0], fields.get(_STRIP_BYTES, (0,))[0]
    else:
        return None
    return start, start + size


def _size(data: bytes, place: tuple[int, int]) -> tuple[int, int] | None:
    """Return the size of the whole JPEG of 8 bits at a place; None if none is there."""
    jpeg = data[slice(*place)] if place[1] <= len(data) else b""
    size = jpeg_size(jpeg)
    return size if size and is_whole("JPEG", jpeg) else None


def _directories(data: bytes) -> Iterator[dict[int, tuple[int, ...]]]:
    """Yield the fields of each directory, the first one first, and those below; damage ends them."""
    order = "<" if data[:2] == b"II" else ">"
    waiting, seen = [int.from_bytes(data[4:8], "little" if order == "<" else "big")], set()
    while waiting and len(seen) < _MOST_DIRECTORIES:
        place = waiting.pop(0)
        if not place or place in seen:
            continue
        seen.add(place)
        try:
            fields, following = _fields(data, place, order)
        except struct.error:
            continue
        yield fields
        waiting += [*fields.get(_SUB_DIRECTORIES, ()), following]


def _fields(data: bytes, place: int, order: str) -> tuple[dict[int, tuple[int, ...]], int]:
    """Return the short fields of a directory as numbers, and where the next directory is."""
    (count,) = struct.unpack_from(f"{order}H", data, place)
    fields = {}
    for start in range(place + 2, place + 2 + 12 * count, 12):
        tag, kind, items = struct.unpack_from(f"{order}HHI", data, start)
        if kind in _ITEMS and 0 < items <= _MOST_ITEMS:
            packed = struct.Struct(f"{order}{items}{_ITEMS[kind]}")
            at = start + 8 if packed.size <= 4 else struct.unpack_from(f"{order}I", data, start + 8)[0]
            if at + packed.size <= len(data):
                fields[tag] = packed.unpack_from(data, at)
    return fields, struct.unpack_from(f"{order}I", data, place + 2 + 12 * count)[0]
