"""Whether a photo's file is whole, as its structure tells: a cut file is found before anything is rendered.

Nothing is decoded. Some decoders fill what is missing with grey, and others would fail half-way through a film.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence

from fanreel.photos.png import reaches_png_end

__all__ = ["boxes", "is_whole", "jpeg_size", "webp_chunks"]

_JPEG_END = b"\xff\xd9"
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)  # any but stuffing, fill and restarts
_JPEG_BARE = (0x01, 0xD8)  # markers without a segment; restarts are one more kind

_TIFF_ITEM_BYTES = bytes([0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8])  # by kind; 0 is no kind
_TIFF_NUMBERS = {3: "H", 4: "I", 16: "Q"}
_TIFF_PLACES = ((273, 279), (324, 325))  # offsets and byte counts, of strips and of tiles


def is_whole(kind: str, data: bytes, *, pixels: Sequence[tuple] = ()) -> bool:
    """Return whether everything that `kind` of file says it holds lies within `data`.

    Args:
        kind: The format in Pillow's words, or HEIF.
        data: The file.
        pixels: For BMP and GIF, where the pixels are: Pillow's `ImageFile.tile`.
    """
    try:
        match kind:
            case "JPEG" | "MPO":
                return _whole_jpeg(data)
            case "PNG":
                return reaches_png_end(data)
            case "WEBP":  # Source: RFC 9649, 2.4
                return 8 + struct.unpack_from("<I", data, 4)[0] <= len(data)
            case "BMP":
                return _whole_bmp(data, *pixels[0])
            case "GIF":
                return _behind_blocks(data, pixels[0][2]) <= len(data)
            case "TIFF":
                return _whole_tiff(data)
            case _:
                return _whole_heif(data)
    except (struct.error, IndexError):  # a field that would tell is itself behind the end
        return False


def webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and content of each whole chunk; of a picture, only the 10 bytes that hold its size.

    Source: RFC 9649, 2.3.
    """
    place = 12
    while place + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, place)
        end = place + 8 + length
        if end > len(data):
            return
        yield name, data[place + 8 : place + 18 if name in (b"VP8 ", b"VP8L", b"ANMF") else end]
        place = end + length % 2


def _whole_jpeg(data: bytes) -> bool:
    """Return whether the first picture's end marker is there.

    Source: ITU-T T.81, B.1.1.
    """
    place, scanned = 2, False
    while True:
        # No end marker occurs inside a scan, so one at the very end of the file is the picture's, or a later one's.
        if scanned and data.endswith(_JPEG_END):
            return True
        found = _JPEG_MARKER.search(data, place)
        if found is None:
            return False
        marker, place = data[found.end() - 1], found.end()
        if marker == _JPEG_END[1]:
            return True
        if marker not in _JPEG_BARE:
            place += int.from_bytes(data[place : place + 2])
        scanned |= marker == 0xDA and place < len(data)


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height of a JPEG of 8 bits that lossy coding made; None if it is none.

    Source: ITU-T T.81, B.2.2.
    """
    place = 2
    while data[:2] == b"\xff\xd8" and (found := _JPEG_MARKER.search(data, place)):
        marker, place = data[found.end() - 1], found.end()
        if marker in (0xC0, 0xC1, 0xC2) and place + 7 <= len(data):
            bits, height, width = struct.unpack_from(">xxBHH", data, place)
            return (width, height) if bits == 8 else None
        if marker in (*range(0xC3, 0xD0), 0xDA) and marker not in (0xC4, 0xC8, 0xCC):
            return None
        if marker not in _JPEG_BARE:
            place += int.from_bytes(data[place : place + 2])
    return None


def _whole_bmp(data: bytes, codec: str, extents: tuple[int, ...], offset: int, args: tuple) -> bool:
    """Return whether all pixels are there. Source: Microsoft, BITMAPINFOHEADER; only packed pixels tell their bytes."""
    pixel_bytes = args[1] * extents[3] if codec == "raw" else struct.unpack_from("<I", data, 34)[0]
    return offset + pixel_bytes <= len(data)


def _behind_blocks(data: bytes, place: int) -> int:
    """Return where a GIF's blocks of data end that start at `place`. Source: GIF89a, 15."""
    while data[place]:
        # Nearly all blocks have 255 bytes, and a picture of 10 MB has 40,000 of them.
        lengths = data[place : place + 256 * 1024 : 256]
        place += 256 * (len(lengths) - len(lengths.lstrip(b"\xff")))
        if not data[place]:
            break
        place += 1 + data[place]
    return place + 1


def _whole_tiff(data: bytes) -> bool:
    """Return whether the first picture's fields, strips and tiles are there. Source: TIFF 6.0, 2; BigTIFF."""
    order = "<" if data[:2] == b"II" else ">"
    is_big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    number, count, inline = ("Q", "Q", 8) if is_big else ("I", "H", 4)
    field = struct.Struct(f"{order}HH{number}")
    (place,) = struct.unpack_from(order + number, data, inline)
    (fields,) = struct.unpack_from(order + count, data, place)
    place += struct.calcsize(order + count)
    values: dict[int, tuple[int, ...]] = {}
    for start in range(place, place + fields * (field.size + inline), field.size + inline):
        tag, kind, items = field.unpack_from(data, start)
        size = items * (_TIFF_ITEM_BYTES[kind] if kind < len(_TIFF_ITEM_BYTES) else 0)
        at = start + field.size
        at = at if size <= inline else struct.unpack_from(order + number, data, at)[0]
        if at + size > len(data):
            return False
        if any(tag in pair for pair in _TIFF_PLACES) and kind in _TIFF_NUMBERS:
            values[tag] = struct.unpack_from(f"{order}{items}{_TIFF_NUMBERS[kind]}", data, at)
    return all(
        offset + size <= len(data)
        for offsets, sizes in _TIFF_PLACES
        for offset, size in zip(values.get(offsets, ()), values.get(sizes, ()), strict=False)
    )


def _whole_heif(data: bytes) -> bool:
    """Return whether all extents of all items are there, or all boxes if there are no items.

    Some phones append data that is no box. Source: ISO/IEC 14496-12, 4.2 and 8.11.3.
    """
    end = 0
    for kind, start, end in boxes(data, 0, len(data)):
        if kind == b"meta" and end <= len(data):
            for name, first, _ in boxes(data, start + 4, end):
                if name == b"iloc":
                    return all(place <= len(data) for place in _item_ends(data, first))
    return end == len(data)


def boxes(data: bytes, place: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start of the content and end of each box."""
    while place + 8 <= stop:
        size, kind = struct.unpack_from(">I4s", data, place)
        header_bytes = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, place + 8)
            header_bytes = 16
        end = stop if size == 0 else place + max(size, header_bytes)
        yield kind, place + header_bytes, end
        place = end


def _item_ends(data: bytes, place: int) -> Iterator[int]:
    """Yield where each extent of each item ends, for items whose extents are counted from the start of the file."""
    version, sizes = data[place], struct.unpack_from(">H", data, place + 4)[0]
    offset_bytes, length_bytes, base_bytes, index_bytes = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    id_bytes = 4 if version == 2 else 2
    place += 6

    def take(count: int) -> int:
        nonlocal place
        if place + count > len(data):
            raise IndexError
        place += count
        return int.from_bytes(data[place - count : place])

    for _ in range(take(id_bytes)):
        take(id_bytes)
        method = take(2) & 15 if version else 0
        take(2)
        base = take(base_bytes)
        for _ in range(take(2)):
            take(index_bytes if version else 0)
            end = base + take(offset_bytes) + take(length_bytes)
            if method == 0:
                yield end
