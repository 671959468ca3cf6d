"""RAW photos as cameras write them: TIFFs with a thumbnail, the sensor's samples, and JPEG previews. TIFF 6.0, 2."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

SENSOR = 32803
_NUMBERS = {1: "B", 2: "B", 3: "H", 4: "I", 7: "B"}


def jpeg(picture, **options):
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(stream, "JPEG", quality=98, subsampling=0, **options)
    return stream.getvalue()


def directory(fields, *, place, order, following=0):
    """A directory of fields tag -> (kind, values) that starts at `place`, with the values that do not fit into it."""
    table, extra = struct.pack(f"{order}H", len(fields)), b""
    behind = place + 2 + 12 * len(fields) + 4
    for tag, (kind, values) in sorted(fields.items()):
        packed = struct.pack(f"{order}{len(values)}{_NUMBERS[kind]}", *values)
        table += struct.pack(f"{order}HHI", tag, kind, len(values))
        if len(packed) > 4:
            table += struct.pack(f"{order}I", behind + len(extra))
            extra += packed + bytes(len(packed) % 2)
        else:
            table += packed.ljust(4, b"\0")
    return table + struct.pack(f"{order}I", following) + extra


def raw_tiff(main, below=(), *, blobs=(), order="<", behind_magic=b""):
    """A TIFF whose first directory is `main`, with directories `below` it.

    Args:
        main: Fields; (kind, "blob 0") stands for where a blob is.
        below: Fields of each of the SubIFDs.
        blobs: What lies in the file.
        order: Of bytes, "<" or ">".
        behind_magic: What follows the eight bytes that every TIFF begins with.
    """
    data = bytes(8) + behind_magic
    places = []
    for blob in blobs:
        places.append(len(data))
        data += blob + bytes(len(blob) % 2)

    def placed(fields):
        return {
            tag: (kind, (places[int(values.split()[1])],) if isinstance(values, str) else values)
            for tag, (kind, values) in fields.items()
        }

    starts = []
    for fields in below:
        starts.append(len(data))
        data += directory(placed(fields), place=len(data), order=order)
    if starts:
        main = {**main, 330: (4, tuple(starts))}
    first = len(data)
    data += directory(placed(main), place=first, order=order)
    return struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, first) + data[8:]


def strip(name, size, *, width, height, compression=7, photometric=6):
    """Fields of a picture in one strip."""
    return {
        256: (4, (width,)), 257: (4, (height,)), 258: (3, (8, 8, 8)), 259: (3, (compression,)),
        262: (3, (photometric,)), 273: (4, name), 277: (3, (3,)), 278: (4, (height,)), 279: (4, (size,)),
    }  # fmt: skip


def dng(preview=None, *, order="<", orientation=1):
    """A DNG whose first picture is a thumbnail of 160x120; the sensor's samples and a preview lie below it."""
    thumbnail = np.full((120, 160, 3), 90, np.uint8).tobytes()
    sensor = bytes(range(256)) * 4
    blobs = [thumbnail, sensor, *([preview] if preview else [])]
    main = strip("blob 0", len(thumbnail), width=160, height=120, compression=1, photometric=2)
    main |= {254: (4, (1,)), 274: (3, (orientation,)), 50706: (1, (1, 4, 0, 0))}
    below = [strip("blob 1", len(sensor), width=4000, height=3000, photometric=SENSOR)]
    if preview:
        width, height = Image.open(io.BytesIO(preview)).size
        below.append({254: (4, (1,)), **strip("blob 2", len(preview), width=width, height=height)})
    return raw_tiff(main, below, blobs=blobs, order=order)
