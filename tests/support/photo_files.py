"""Files that no library here writes: profiles, HEIC, TIFF and PNG of every kind, from what they must show."""

from __future__ import annotations

import io
import struct
import zlib
from fractions import Fraction

import av
import numpy as np
from PIL import Image

from fanreel.photos.photo import decode_photo, read_photo

COLOURS = np.array([[(200, 40, 40), (40, 180, 60)], [(30, 50, 210), (220, 220, 120)]], np.uint8)
"""What the four corners of a chart have, in sRGB: red, green; blue, yellow. All within every profile here."""

SRGB_PRIMARIES = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
P3_PRIMARIES = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE_PRIMARIES = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
ADOBE_GAMMA = 563 / 256

D65 = np.array([0.3127 / 0.3290, 1.0, (1 - 0.3127 - 0.3290) / 0.3290])
D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
D65_TO_D50 = np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ D50) / (BRADFORD @ D65)) @ BRADFORD


def chart(colours=COLOURS, width=96, height=64):
    """A picture whose quarters have the four colours."""
    return colours.repeat(height // 2, axis=0).repeat(width // 2, axis=1)


def encoded(picture, kind, **options):
    """A picture as Pillow writes it."""
    stream = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(np.ascontiguousarray(picture))
    image.save(stream, kind, **options)
    return stream.getvalue()


def decoded(path):
    """The photo's RGB pixels as the engine sees them, int (height, width, 3); its header told their size."""
    photo = read_photo(path, max_megapixels=400)
    pixels = decode_photo(path, photo, largest_reduction=1).bgr
    assert (pixels.shape, pixels.dtype) == ((photo.height_px, photo.width_px, 3), np.uint8)
    return pixels[:, :, ::-1].astype(int)


def corners_of(rgb):
    """The colours in the middles of the four quarters."""
    height, width, _ = rgb.shape
    return rgb[height // 4 :: height // 2, width // 4 :: width // 2]


TURNED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright),
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}
"""EXIF orientation -> how a camera that was held so stores the upright picture."""


def exif(orientation):
    block = Image.Exif()
    block[274] = orientation
    return block


# Colours


def srgb_to_linear(codes):
    values = np.asarray(codes) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(linear):
    values = np.clip(linear, 0, 1)
    return 255 * np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)


def to_xyz(primaries):
    """The matrix from linear light of these primaries, white D65, to XYZ."""
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in primaries]).T
    return columns * np.linalg.solve(columns, D65)


def codes_in(colours, primaries, gamma=None):
    """The codes, 0 to 1, that show `colours` of sRGB in another colour space; its curve is sRGB's without a gamma."""
    linear = srgb_to_linear(colours) @ to_xyz(SRGB_PRIMARIES).T @ np.linalg.inv(to_xyz(primaries)).T
    assert linear.min() >= 0
    assert linear.max() <= 1
    return linear ** (1 / gamma) if gamma else linear_to_srgb(linear) / 255


def lab_to_srgb(lab):
    """CIELAB of D50 -> sRGB codes, not rounded."""
    lightness, a, b = np.moveaxis(np.asarray(lab, float), -1, 0)
    f = np.stack((((lightness + 16) / 116) + a / 500, (lightness + 16) / 116, (lightness + 16) / 116 - b / 200), -1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * D50
    return linear_to_srgb(xyz @ np.linalg.inv(D65_TO_D50).T @ np.linalg.inv(to_xyz(SRGB_PRIMARIES)).T)


# Profiles. Source: ICC.1:2001-04 (version 2) and ICC.1:2010 (version 4), clauses 7, 9 and 10.


def fixed(value):
    return struct.pack(">i", round(value * 65536))


def icc_profile(tags, *, space=b"RGB ", kind=b"mntr", connection=b"XYZ ", version=2):
    """A profile of these tags: name -> content."""
    place, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += struct.pack(">4sII", name, place + len(body), len(content))
        body += content
    header = struct.pack(
        ">I4sI4s4s4s12s4s4sII4s8sI", place + len(body), b"", version << 24, kind, space, connection,
        struct.pack(">6H", 2026, 1, 1, 0, 0, 0), b"acsp", b"", 0, 0, b"", b"", 1,
    ) + b"".join(map(fixed, D50))  # fmt: skip
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def named_tags(version=2):
    text = b"XYZ \0\0\0\0" + b"".join(map(fixed, D50))
    if version == 4:
        words = "a test".encode("utf-16-be")
        described = struct.pack(">4sxxxxII2s2sII", b"mluc", 1, 12, b"en", b"US", len(words), 28) + words
        return {b"desc": described, b"cprt": described, b"wtpt": text}
    described = b"desc\0\0\0\0" + struct.pack(">I", 7) + b"a test\0" + bytes(78)
    return {b"desc": described, b"cprt": b"text\0\0\0\0a test\0", b"wtpt": text}


def curve(gamma, version=2):
    """A tone curve: a power, or sRGB's as a function (version 4) or as a table (version 2)."""
    if gamma is not None:
        return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    if version == 4:
        terms = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
        return b"para\0\0\0\0" + struct.pack(">HH", 3, 0) + b"".join(map(fixed, terms))
    table = np.round(srgb_to_linear(np.linspace(0, 255, 1024)) * 65535).astype(">u2")
    return b"curv\0\0\0\0" + struct.pack(">I", len(table)) + table.tobytes()


def rgb_profile(primaries, gamma=None, version=2):
    matrix = D65_TO_D50 @ to_xyz(primaries)
    tags = named_tags(version)
    for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), matrix.T, strict=True):
        tags[name] = b"XYZ \0\0\0\0" + b"".join(map(fixed, column))
    return icc_profile(tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(gamma, version)), version=version)


def grey_profile(gamma):
    return icc_profile(named_tags() | {b"kTRC": curve(gamma)}, space=b"GRAY")


def cmyk_profile(lab_of):
    """A press whose 16 mixes of full inks have the CIELAB that `lab_of(c, m, y, k)` says; between them it is linear."""
    inks = np.stack(np.meshgrid(*[(0, 1)] * 4, indexing="ij"), -1).reshape(-1, 4)
    lab = np.array([lab_of(*row) for row in inks.tolist()], float)
    codes = np.clip(np.round(np.stack((lab[:, 0] * 2.55, lab[:, 1] + 128, lab[:, 2] + 128), -1)), 0, 255)
    ramp = bytes(range(256))
    identity = b"".join(map(fixed, np.eye(3).ravel()))
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + identity + ramp * 4 + codes.astype(np.uint8).tobytes() + ramp * 3
    return icc_profile(named_tags() | {b"A2B0": table}, space=b"CMYK", kind=b"prtr", connection=b"Lab ")


# TIFF 6.0


def tiff(samples, *, photometric, order="<", bits=None, sample_format=1, tags=()):
    """An uncompressed TIFF of (height, width, channels) samples; `bits` only where numpy has no such type."""
    height, width, channels = samples.shape
    data = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    bits = bits or samples.dtype.itemsize * 8
    entries = {
        256: (4, (width,)), 257: (4, (height,)), 258: (3, (bits,) * channels), 259: (3, (1,)), 262: (3, (photometric,)),
        273: (4, (8,)), 277: (3, (channels,)), 278: (4, (height,)), 279: (4, (len(data),)),
        339: (3, (sample_format,) * channels), **dict(tags),
    }  # fmt: skip
    place = 8 + len(data) + len(data) % 2
    behind = place + 2 + 12 * len(entries) + 4
    table, extra = struct.pack(f"{order}H", len(entries)), b""
    for tag, (kind, values) in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(values)}{ {1: 'B', 3: 'H', 4: 'I', 7: 'B'}[kind] }", *values)
        table += struct.pack(f"{order}HHI", tag, kind, len(values))
        if len(packed) > 4:
            table += struct.pack(f"{order}I", behind + len(extra))
            extra += packed + bytes(len(packed) % 2)
        else:
            table += packed.ljust(4, b"\0")
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, place)
    return head + data + bytes(len(data) % 2) + table + bytes(4) + extra


# PNG, third edition


def png_chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(samples, *, colour_type, chunks=b""):
    """A PNG of (height, width, channels) samples of 8 or 16 bits, with more chunks before its pixels."""
    height, width, _ = samples.shape
    bits = samples.dtype.itemsize * 8
    rows = b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    parts = png_chunk(b"IHDR", header), chunks, png_chunk(b"IDAT", zlib.compress(rows)), png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


# HEIF. Source: ISO/IEC 14496-12 (boxes), 23008-12 (items and properties), 14496-15, 8.3.3 (hvcC).


def box(kind, *contents):
    content = b"".join(contents)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def full_box(kind, *contents, version=0, flags=0):
    return box(kind, struct.pack(">I", version << 24 | flags), *contents)


def hevc_picture(rgb):
    """One picture as HEVC without loss in 4:4:4: its parameter sets, and its slices behind their lengths.

    Samples of uint16 have 10 bits.
    """
    kind = "gbrp10le" if rgb.dtype == np.uint16 else "gbrp"
    codec = av.CodecContext.create("libx265", "w")
    codec.width, codec.height, codec.pix_fmt = rgb.shape[1], rgb.shape[0], kind
    codec.time_base = Fraction(1, 25)
    codec.options = {"preset": "ultrafast", "x265-params": "lossless=1:log-level=none:info=0:keyint=1"}
    frame = av.VideoFrame.from_ndarray(rgb, kind if kind == "gbrp10le" else "rgb24").reformat(format=kind)
    packets = [*codec.encode(frame), *codec.encode(None)]
    units = [unit for unit in b"".join(map(bytes, packets)).replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if unit]
    sets = [unit for unit in units if unit[0] >> 1 & 63 in (32, 33, 34)]
    slices = b"".join(struct.pack(">I", len(unit)) + unit for unit in units if unit[0] >> 1 & 63 < 32)
    return sets, slices


def hvcc(sets, bits=8):
    depth = 0xF8 | bits - 8
    profile = sets[1][3:15]  # behind the unit's header and one byte: general profile, tier and level
    head = bytes((1,)) + profile + struct.pack(">HBBBBHBB", 0xF000, 0xFC, 0xFC | 3, depth, depth, 0, 15, len(sets))
    return box(b"hvcC", head, *[struct.pack(">BHH", unit[0] >> 1 & 63, 1, len(unit)) + unit for unit in sets])


def heic(rgb, *, rotation=0, mirror=None, exif=b"", profile=None, brand=b"heic", signal=(1, 13)):
    """A HEIC file.

    Args:
        rgb: The stored picture, sides multiples of 8; uint8, or uint16 of 10 bits.
        rotation: Quarter turns anticlockwise that the reader makes (irot).
        mirror: Then mirrored top to bottom (0) or left to right (1).
        exif: A block of EXIF, as cameras add one.
        profile: ICC.
        brand: What the file says it is.
        signal: Primaries and transfer in its nclx.
    """
    sets, slices = hevc_picture(rgb)
    properties = [
        hvcc(sets, 10 if rgb.dtype == np.uint16 else 8),
        full_box(b"ispe", struct.pack(">II", rgb.shape[1], rgb.shape[0])),
    ]
    colour = b"nclx" + struct.pack(">HHHB", *signal, 0, 0x80)
    properties.append(box(b"colr", colour))
    if profile:
        properties.append(box(b"colr", b"prof", profile))
    if rotation:
        properties.append(box(b"irot", bytes((rotation,))))
    if mirror is not None:
        properties.append(box(b"imir", bytes((mirror,))))
    items = [(1, b"hvc1", slices)]
    if exif:
        items.append((2, b"Exif", struct.pack(">I", 0) + exif.removeprefix(b"Exif\0\0")))
    infos = [full_box(b"infe", struct.pack(">HH4sB", number, 0, kind, 0), version=2) for number, kind, _ in items]
    linked = struct.pack(">IHB", 1, 1, len(properties)) + bytes(0x80 | n for n in range(1, len(properties) + 1))

    def meta(start):
        extents = b""
        for number, _, content in items:
            extents += struct.pack(">HHHII", number, 0, 1, start, len(content))
            start += len(content)
        references = full_box(b"iref", box(b"cdsc", struct.pack(">HHH", 2, 1, 1))) if exif else b""
        return full_box(
            b"meta",
            full_box(b"hdlr", struct.pack(">I4s12xB", 0, b"pict", 0)),
            full_box(b"pitm", struct.pack(">H", 1)),
            full_box(b"iloc", struct.pack(">HH", 0x4400, len(items)), extents),
            full_box(b"iinf", struct.pack(">H", len(items)), *infos),
            references,
            box(b"iprp", box(b"ipco", *properties), full_box(b"ipma", linked)),
        )

    head = box(b"ftyp", brand, bytes(4), b"mif1", b"heic")
    start = len(head) + len(meta(0)) + 8
    return head + meta(start) + box(b"mdat", *[content for _, _, content in items])


def deadly_heic(rgb):
    """A HEIC of whose items one has a type that is no text: pi-heif dies of SIGSEGV when it reads the header."""
    data = heic(rgb, exif=b"II*\0" + bytes(20))
    place = data.index(b"Exif", data.index(b"iinf"))
    return data[:place] + b"\x45\xea\x69\x66" + data[place + 4 :]
