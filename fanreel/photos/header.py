"""What a photo's header says: its format, size, orientation, and what it takes to get its colours right."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import pi_heif
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from fanreel.colour.matrix_profiles import profile_signal
from fanreel.colour.signals import ColourSignal
from fanreel.errors import UnreadablePhotoError
from fanreel.photos.heif_items import bare_avif, main_picture_bits, main_picture_signal
from fanreel.photos.png import bare_png, png_exif, png_profile, png_signal
from fanreel.photos.raw import RawPhoto, find_raw
from fanreel.photos.structure import is_whole, webp_chunks
from fanreel.printable import printable

__all__ = [
    "DECODER_ERRORS",
    "JPEG_FORMATS",
    "TURNS",
    "PhotoHeader",
    "bare_file",
    "open_heif",
    "open_image",
    "read_header",
]

# Pillow opens more formats, such as PostScript, but decoding them would fail half-way through a film.
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF")
JPEG_FORMATS = ("JPEG", "MPO")
"""MPO is a JPEG with more pictures behind the first one, as phones and cameras make them."""

DECODER_ERRORS = (
    *(OSError, ValueError, SyntaxError, RuntimeError, EOFError, TypeError, AttributeError, AssertionError),
    *(LookupError, ArithmeticError, struct.error, zlib.error, cv2.error),
)
"""What the decoders raise for damaged files; Pillow's plugins use most fields of a file unchecked."""

TURNS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
"""EXIF orientation -> (transpose, flip rows, flip columns), applied in that order to the stored pixels.

Source: EXIF 2.32, table 6.
"""

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_PICTURE_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB")


@dataclass(frozen=True, slots=True)
class PhotoHeader:
    """What a file's header says.

    Attributes:
        format: In Pillow's words, or HEIF.
        mode: In Pillow's words.
        stored_px: Width and height as they come out of the decoder.
        orientation: What turns the pixels that come out of the decoder upright; a key of `TURNS`.
        has_alpha: Some pixels may be transparent.
        profile: The embedded ICC profile.
        is_whole: The file holds all that its structure says it does.
        bits: Of the samples that come out of the decoder, from 0 to the largest number of so many bits.
        signal: What its colours are in code points.
        is_animated: There are more pictures behind the first one.
        is_inverted: The samples that come out of the decoder have to be inverted.
        clear_grey: The 16-bit grey that counts as transparent.
        raw: What it is a preview of, if the file is a RAW photo.
    """

    format: str
    mode: str
    stored_px: tuple[int, int]
    orientation: int
    has_alpha: bool
    profile: bytes | None
    is_whole: bool
    bits: int = 8
    signal: ColourSignal | None = None
    is_animated: bool = False
    is_inverted: bool = False
    clear_grey: int | None = None
    raw: RawPhoto | None = None

    @property
    def is_deep(self) -> bool:
        """Whether its samples have more than 8 bits."""
        return self.bits > 8

    @property
    def upright_px(self) -> tuple[int, int]:
        """Width and height of the upright photo."""
        width, height = self.stored_px
        return (height, width) if TURNS[self.orientation][0] else (width, height)


def read_header(path: Path, data: bytes) -> PhotoHeader:
    """Return what the header of `data`, the bytes at `path`, says. Nothing is decoded.

    Raises:
        UnreadablePhotoError: The bytes are no picture of a known kind, or are cut short.
    """
    if not data:
        raise UnreadablePhotoError(f"{printable(path)}: the file is empty")
    try:
        raw = find_raw(data)
        header = _raw_header(data, raw) if raw else _header_reader(data)(data)
        said = profile_signal(header.profile) if header.profile else None
        if said and said.is_hdr:
            header = replace(header, signal=said)
    except UnidentifiedImageError:
        is_tiff = data[:4] in (b"II*\0", b"MM\0*")
        reason = "a TIFF of a kind that cannot be read; save it with 8 or 16 bits a sample"
        reason = reason if is_tiff else "not a picture that can be read"
        raise UnreadablePhotoError(f"{printable(path)}: {reason}") from None
    except DECODER_ERRORS as error:
        raise UnreadablePhotoError(f"{printable(path)}: {' '.join(str(error).split())}") from None
    if not header.is_whole:
        raise UnreadablePhotoError(f"{printable(path)}: the file is cut short; copy it again, or leave it out")
    if 0 in header.stored_px:
        raise UnreadablePhotoError(f"{printable(path)}: has no pixels")
    if header.mode not in _PICTURE_MODES and not header.is_deep:
        raise UnreadablePhotoError(
            f"{printable(path)}: samples of a kind ({header.mode}) that no screen shows;"
            " save it with 8 or 16 bits a sample"
        )
    return header


def open_image(data: bytes) -> ImageFile.ImageFile:
    """Return the picture, not yet decoded, of any format but HEIF. The file should be bare."""
    return Image.open(io.BytesIO(data), formats=_FORMATS)


def bare_file(data: bytes) -> bytes:
    """Return the file without what has kept Pillow, OpenCV or libpng from its pixels, or made them print warnings."""
    if data.startswith(_PNG_MAGIC):
        return bare_png(data)
    return bare_avif(data) if data[4:8] == b"ftyp" and not _is_heic(data) else data


def open_heif(data: bytes) -> pi_heif.HeifImage:
    """Return the main picture of a HEIF file, not yet decoded; it will be (height, width, channels) in BGR.

    It will be uint8, or uint16 with its bits in the upper ones.
    """
    file = pi_heif.open_heif(data, convert_hdr_to_8bit=False, bgr_mode=True)
    return file[file.primary_index]


def _header_reader(data: bytes) -> Callable[[bytes], PhotoHeader]:
    if _is_heic(data):
        return _heif_header
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp_header
    return _png_header if data.startswith(_PNG_MAGIC) else _pillow_header


def _is_heic(data: bytes) -> bool:
    """Return whether a HEIF file holds HEVC; its brand alone does not always tell it from AVIF."""
    return data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS and b"av01" not in data[: 1 << 16]


def _heif_header(data: bytes) -> PhotoHeader:
    image = open_heif(data)
    return PhotoHeader(
        format="HEIF",
        mode="RGB",
        stored_px=image.size,
        orientation=1,  # libheif turns it as the file's own boxes say; EXIF only repeats them
        has_alpha=image.has_alpha,
        profile=image.info.get("icc_profile"),
        is_whole=is_whole("HEIF", data),
        bits=image.info.get("bit_depth", 8),
        signal=main_picture_signal(data),  # pi-heif does not tell it beside a profile
    )


def _webp_header(data: bytes) -> PhotoHeader:
    """Return the header of a WebP; Pillow would allocate every pixel to read it. Source: RFC 9649, 2.4 to 2.7."""
    chunks = dict(reversed(list(webp_chunks(data))))  # the first one of each name counts
    picture = chunks.get(b"VP8X") or chunks.get(b"VP8L") or chunks.get(b"VP8 ") or b""
    flags = 0
    if b"VP8X" in chunks:
        flags = picture[0]
        width, height = (int.from_bytes(picture[at : at + 3], "little") + 1 for at in (4, 7))
    elif b"VP8L" in chunks:
        bits = int.from_bytes(picture[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        flags = 0x10 if bits >> 28 & 1 else 0
    else:
        width, height = (int.from_bytes(picture[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    return PhotoHeader(
        format="WEBP",
        mode="RGB",
        stored_px=(width, height),
        orientation=_exif_turn(chunks.get(b"EXIF", b"")),
        has_alpha=bool(flags & 0x10),
        profile=chunks.get(b"ICCP"),
        is_whole=is_whole("WEBP", data),
        is_animated=bool(flags & 0x02),
    )


def _png_header(data: bytes) -> PhotoHeader:
    with open_image(bare_file(data)) as image:
        clear = image.info.get("transparency")
        return PhotoHeader(
            format="PNG",
            mode=image.mode,
            stored_px=image.size,
            orientation=_exif_turn(png_exif(data)),
            has_alpha=image.has_transparency_data,
            profile=png_profile(data),
            is_whole=is_whole("PNG", data),
            bits=16 if data[24] == 16 else 8,  # Source: PNG, 11.2.1
            signal=png_signal(data),
            clear_grey=clear if isinstance(clear, int) else None,
        )


def _pillow_header(data: bytes) -> PhotoHeader:
    with open_image(bare_file(data)) as image:
        kind = str(image.format)
        profile = image.info.get("icc_profile")
        bits = main_picture_bits(data) if kind == "AVIF" else 16 if _is_deep_tiff(image) else 8
        tags = getattr(image, "tag_v2", {}) if bits == 16 else {}
        # Colours stored premultiplied with alpha are not multiplied again; of 8-bit ones Pillow undoes it first.
        is_faded = tags.get(ExifTags.Base.ExtraSamples) == (1,)
        # Pillow takes the inks of every JPEG for inverted, as Adobe's programs store them, who say that they made it.
        is_plain_cmyk = kind in JPEG_FORMATS and image.mode == "CMYK" and "adobe" not in image.info
        return PhotoHeader(
            format=kind,
            mode=image.mode,
            stored_px=image.size,
            orientation=_turn(image),
            has_alpha=image.has_transparency_data and not is_faded,
            profile=profile if isinstance(profile, bytes) else None,
            is_whole=is_whole(kind, data, pixels=image.tile),
            bits=bits,
            signal=main_picture_signal(data) if kind == "AVIF" else None,
            is_inverted=is_plain_cmyk or tags.get(ExifTags.Base.PhotometricInterpretation) == 0,
        )


def _raw_header(data: bytes, raw: RawPhoto) -> PhotoHeader:
    """Return the header of a RAW photo's preview, which counts as the photo."""
    if raw.preview is None:
        raise ValueError(f"a RAW photo ({raw.kind}); develop it to JPEG or TIFF")
    header = _pillow_header(data[slice(*raw.preview)])
    said = header.orientation if raw.orientation is None else raw.orientation
    return replace(header, orientation=said if said in TURNS else 1, raw=raw)


def _is_deep_tiff(image: Image.Image) -> bool:
    """Return whether the samples of a TIFF have 16 bits. Source: TIFF 6.0, 8.

    Raises:
        ValueError: They have a depth that no decoder here shows right.
    """
    if image.format != "TIFF" or image.mode not in ("I;16", "I;16B", "RGB", "RGBA", "RGBX", "LA", "L"):
        return False
    tags = image.tag_v2  # pyright: ignore[reportAttributeAccessIssue]
    bits, kinds = tags.get(ExifTags.Base.BitsPerSample, (1,)), tags.get(ExifTags.Base.SampleFormat, (1,))
    if set(bits) == {16} and set(kinds) == {1}:
        return True
    if image.mode.startswith("I"):
        raise ValueError(f"samples of {max(bits)} bits; save it with 8 or 16 bits a sample")
    return False


def _turn(image: Image.Image) -> int:
    if image.format == "TIFF":
        return 1  # both decoders turn it themselves, and its header gives the size of the upright photo
    if image.format == "AVIF":
        return _exif_turn(image.info.get("exif", b""))  # where Pillow writes down what the file's own boxes say
    try:
        return _known_turn(image.getexif())
    except DECODER_ERRORS:
        return 1


def _exif_turn(block: bytes) -> int:
    """Return the orientation in a block of EXIF; 1 if it is damaged."""
    exif = Image.Exif()
    try:
        exif.load(block)
    except DECODER_ERRORS:
        return 1
    return _known_turn(exif)


def _known_turn(exif: Image.Exif) -> int:
    value = exif.get(ExifTags.Base.Orientation, 1)
    return value if value in TURNS else 1
