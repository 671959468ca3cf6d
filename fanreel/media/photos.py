"""Photos: what they are, and their pixels at the size needed."""

from __future__ import annotations

import io
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


def read_photo(path: Path, *, max_megapixels: float) -> Photo:
    """Return what the photo at `path` is, from its bytes and its header alone.

    Raises:
        UnreadablePhotoError: It is no picture, or larger than `max_megapixels`.
        StorageError: It cannot be read.
    """
    data = _read_bytes(path)
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            orientation = _orientation(image)
    except UnidentifiedImageError:
        what = "the file is empty" if not data else "not a picture that can be read"
        raise UnreadablePhotoError(f"{path}: {what}") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise UnreadablePhotoError(f"{path}: {error}") from None
    if width * height > max_megapixels * 1e6:
        raise UnreadablePhotoError(
            f"{path}: {width}x{height} is over {max_megapixels:g} megapixels; FANREEL_MAX_PHOTO_MEGAPIXELS raises it"
        )
    if _TURNS[orientation][0]:
        width, height = height, width
    return Photo(digest=blake3(data).hexdigest(), width_px=width, height_px=height)


def decode_photo(path: Path, photo: Photo, *, largest_reduction: float) -> DecodedPhoto:
    """Return the pixels of `photo`, upright, decoded at the smallest size that is enough.

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
    reduction = max(factor for factor in _REDUCED if factor <= max(1.0, largest_reduction))
    with Image.open(io.BytesIO(data)) as image:
        orientation = _orientation(image)
        # Only the JPEG decoder makes a smaller picture for less work; for others it would be resampled blindly.
        reduction = reduction if image.format == "JPEG" else 1
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _REDUCED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise UnreadablePhotoError(f"{path}: its pixels do not decode; open and save it again, or leave it out")
    return DecodedPhoto(_turned(pixels, orientation), reduction)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise storage_error(error, doing=f"read the photo {path}") from None


def _orientation(image: Image.Image) -> int:
    value = image.getexif().get(ExifTags.Base.Orientation, 1)
    return value if value in _TURNS else 1


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    transpose, flip_rows, flip_columns = _TURNS[orientation]
    if transpose:
        pixels = pixels.transpose(1, 0, 2)
    pixels = pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
    return np.ascontiguousarray(pixels)
