"""Photos: what they are, and their pixels at the size needed."""

from __future__ import annotations

import io
import logging
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from blake3 import blake3
from PIL import ExifTags, Image, UnidentifiedImageError

from fanreel.errors import PhotoChangedError, UnreadablePhotoError, storage_error
from fanreel.plan.timeline import Photo

__all__ = ["DecodedPhoto", "decode_photo", "read_photo"]

Image.MAX_IMAGE_PIXELS = None  # the bound is ours (Settings.max_photo_megapixels) and its error names the photo
# What Pillow has to say of a header (a damaged EXIF block) it says without naming the photo.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())

# What both decoders know. Pillow alone opens more, such as PostScript, which would fail half-way through a film.
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
_JPEG = ("JPEG", "MPO")  # a JPEG with more pictures behind the first one, as phones and cameras make them

# EXIF orientation -> (transpose, flip rows, flip columns), applied in that order to the stored pixels.
# Source: EXIF 2.32, table 6.
_TURNS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}

_REDUCED = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}


@dataclass(frozen=True, slots=True)
class DecodedPhoto:
    """Pixels of an upright photo, `1/reduction` of its size.

    Attributes:
        bgr: (height, width, 3) uint8, full range.
        reduction: Pixel (i, j) covers the photo's px `[reduction*j, reduction*(j+1))` across, and so down.
    """

    bgr: np.ndarray
    reduction: int


@dataclass(frozen=True, slots=True)
class _Header:
    """What a file's header says.

    Attributes:
        format: In Pillow's words.
        stored_px: Width and height as stored.
        orientation: What turns the pixels that come out of the decoder upright; a key of `_TURNS`.
        has_alpha: Some pixels may be transparent.
    """

    format: str | None
    stored_px: tuple[int, int]
    orientation: int
    has_alpha: bool

    @property
    def upright_px(self) -> tuple[int, int]:
        """Width and height of the upright photo."""
        width, height = self.stored_px
        return (height, width) if _TURNS[self.orientation][0] else (width, height)


def read_photo(path: Path, *, max_megapixels: float) -> Photo:
    """Return what the photo at `path` is, from its bytes and its header alone.

    Raises:
        UnreadablePhotoError: It is no picture, cut short, or larger than `max_megapixels`.
        StorageError: It cannot be read.
    """
    data = _read_bytes(path)
    header = _read_header(path, data)
    width, height = header.upright_px
    if width * height > max_megapixels * 1e6:
        raise UnreadablePhotoError(
            f"{path}: {width}x{height} is over {max_megapixels:g} megapixels; FANREEL_MAX_PHOTO_MEGAPIXELS raises it"
        )
    return Photo(digest=blake3(data).hexdigest(), width_px=width, height_px=height)


def decode_photo(path: Path, photo: Photo, *, largest_reduction: float) -> DecodedPhoto:
    """Return the pixels of `photo`, upright, decoded at the smallest size that is enough.

    What is transparent is shown over black.

    Args:
        path: Where its bytes are.
        photo: What was planned.
        largest_reduction: How many px of the photo one decoded pixel may cover.

    Raises:
        PhotoChangedError: The bytes are not those that were planned.
        UnreadablePhotoError: They do not decode.
    """
    data = _read_bytes(path)
    if blake3(data).hexdigest() != photo.digest:
        raise PhotoChangedError(f"{path}: changed since the film was planned; run the same command again")
    header = _read_header(path, data)
    reduction = max(factor for factor in _REDUCED if factor <= max(1.0, largest_reduction))
    # Only the JPEG decoder makes a smaller picture for less work; for others it would be resampled blindly.
    reduction = reduction if header.format in _JPEG else 1
    if header.has_alpha:
        pixels = _decode_over_black(data)
    else:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _REDUCED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise UnreadablePhotoError(f"{path}: its pixels do not decode; open and save it again, or leave it out")
    upright = _turned(pixels, header.orientation)
    rows, columns = -(-photo.height_px // reduction), -(-photo.width_px // reduction)
    if upright.shape != (rows, columns, 3):
        raise UnreadablePhotoError(
            f"{path}: decodes to {upright.shape[1]}x{upright.shape[0]} where {columns}x{rows} was expected;"
            " open and save it again, or leave it out"
        )
    return DecodedPhoto(upright, reduction)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise storage_error(error, doing=f"read the photo {path}") from None


def _read_header(path: Path, data: bytes) -> _Header:
    if not data:
        raise UnreadablePhotoError(f"{path}: the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            # Of 16-bit grey Pillow cannot make more; a colour that counts as transparent there is shown.
            has_alpha = image.has_transparency_data and not image.mode.startswith("I")
            header = _Header(image.format, image.size, _orientation(image, data), has_alpha)
    except UnidentifiedImageError:
        raise UnreadablePhotoError(f"{path}: not a picture that can be read") from None
    except (OSError, ValueError, SyntaxError, RuntimeError) as error:
        raise UnreadablePhotoError(f"{path}: {error}") from None
    if not _is_whole(header.format, data):
        raise UnreadablePhotoError(f"{path}: the file is cut short; copy it again, or leave it out")
    return header


def _orientation(image: Image.Image, data: bytes) -> int:
    if image.format == "TIFF":
        return 1  # both decoders turn it themselves, and the header's size is that of the upright photo
    if image.format == "PNG":
        exif = next((content for kind, content in _png_chunks(data) if kind == b"eXIf"), None)
        if exif is not None:
            image.info["exif"] = b"Exif\0\0" + exif
    # Of a PNG, `image.getexif()` would decode the pixels first, and so be the victim of any bomb.
    value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    return value if value in _TURNS else 1


def _is_whole(kind: str | None, data: bytes) -> bool:
    """Return whether the end is there, where that costs little to see: some decoders fill the rest with grey."""
    if kind in _JPEG:
        return data.find(b"\xff\xd9", _jpeg_scan(data)) >= 0
    return kind != "PNG" or any(name == b"IEND" for name, _ in _png_chunks(data))


def _jpeg_scan(data: bytes) -> int:
    """Return where the first scan begins; 0 if that is hard to say. A scan holds no end marker but its own.

    Source: ITU-T T.81, B.1.1.
    """
    place = 2
    while data[place : place + 1] == b"\xff" and place + 4 <= len(data):
        marker = data[place + 1]
        if marker == 0xDA:
            return place
        place += 1 if marker == 0xFF else 2 + int.from_bytes(data[place + 2 : place + 4])
    return len(data) if place >= len(data) else 0


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and content of each whole chunk but the pixels'; theirs is empty.

    Source: PNG, third edition, 5.3.
    """
    place = 8
    while place + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if end > len(data):
            return
        yield name, b"" if name == b"IDAT" else data[place + 8 : end - 4]
        place = end


def _decode_over_black(data: bytes) -> np.ndarray | None:
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            rgba = np.asarray(image.convert("RGBA"))
    except (OSError, ValueError, SyntaxError, RuntimeError, EOFError):
        return None
    bgr = rgba[:, :, 2::-1]
    if rgba[:, :, 3].min() == 255:
        return bgr
    return ((bgr.astype(np.uint16) * rgba[:, :, 3:] + 127) // 255).astype(np.uint8)


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    transpose, flip_rows, flip_columns = _TURNS[orientation]
    if transpose:
        pixels = pixels.transpose(1, 0, 2)
    pixels = pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
    return np.ascontiguousarray(pixels)
