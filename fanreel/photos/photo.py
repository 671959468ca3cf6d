"""Photos: what they are, and their pixels at the size needed."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from blake3 import blake3

from fanreel.errors import PhotoChangedError, PhotoNotFoundError, UnreadablePhotoError, storage_error
from fanreel.photos.header import DECODER_ERRORS, TURNS, PhotoHeader, read_header
from fanreel.photos.library_settings import photo_settings
from fanreel.photos.pixels import LARGEST_REDUCTION, REDUCTIONS, can_reduce, decode_pixels
from fanreel.plan.content import Photo
from fanreel.printable import printable

__all__ = ["DecodedPhoto", "check_size", "decode_photo", "read_photo", "read_whole_photo", "reading"]

_GONE = (errno.ENOENT, errno.ENOTDIR)
_FORBIDDEN = (errno.EACCES, errno.EPERM)


@dataclass(frozen=True, slots=True)
class DecodedPhoto:
    """Pixels of an upright photo, `1/reduction` of its size.

    Attributes:
        bgr: (height, width, 3) uint8, full range, sRGB.
        reduction: Pixel (i, j) covers the photo's px `[reduction*j, reduction*(j+1))` across, and so down.
    """

    bgr: np.ndarray
    reduction: int


def read_photo(path: Path, *, max_megapixels: float) -> Photo:
    """Return what the photo at `path` is, from its bytes and its header alone.

    Raises:
        PhotoNotFoundError: There is no such file.
        UnreadablePhotoError: It is no picture, is cut short, is larger than `max_megapixels`, or may not be read.
        StorageError: The disk fails.
    """
    with photo_settings():
        return _measure(path, _read_bytes(path), max_megapixels)[1]


def read_whole_photo(path: Path, data: bytes, *, max_megapixels: float) -> Photo:
    """Return what the photo `data`, the bytes at `path`, is, after every byte of its pixels was decoded.

    Raises:
        UnreadablePhotoError: It is no picture, is cut short or damaged, or is larger than `max_megapixels`.
    """
    with photo_settings():
        header, photo = _measure(path, data, max_megapixels)
        reduction = LARGEST_REDUCTION if can_reduce(header) else 1
        # Bringing it to sRGB takes up to four times as long as decoding, and finds nothing.
        _decode(path, data, replace(header, profile=None, signal=None), photo, reduction=reduction)
    return photo


def check_size(path: Path, photo: Photo, *, max_megapixels: float) -> None:
    """Raise `UnreadablePhotoError` if the photo at `path` has more pixels than this host decodes."""
    if photo.width_px * photo.height_px > max_megapixels * 1e6:
        raise UnreadablePhotoError(
            f"{printable(path)}: {photo.width_px}x{photo.height_px} is over {max_megapixels:g} megapixels;"
            " FANREEL_MAX_PHOTO_MEGAPIXELS raises it"
        )


def decode_photo(path: Path, photo: Photo, *, largest_reduction: float) -> DecodedPhoto:
    """Return the pixels of `photo`, upright, decoded at the smallest size that is enough.

    They are sRGB. What is transparent is shown over black.

    Args:
        path: Where its bytes are.
        photo: What was planned.
        largest_reduction: How many px of the photo one decoded pixel may cover along either side.

    Raises:
        PhotoChangedError: The bytes are not those that were planned, or are gone.
        UnreadablePhotoError: The bytes do not decode, or may not be read any more.
        StorageError: The disk fails.
    """
    try:
        data = _read_bytes(path)
    except PhotoNotFoundError:
        raise PhotoChangedError(
            f"{printable(path)}: gone since the film was planned; put it back, or leave it out"
        ) from None
    if blake3(data).hexdigest() != photo.digest:
        raise PhotoChangedError(f"{printable(path)}: changed since the film was planned; run the same command again")
    with photo_settings():
        header = read_header(path, data)
        reduction = max(factor for factor in REDUCTIONS if factor <= max(1.0, largest_reduction))
        reduction = reduction if can_reduce(header) else 1
        return DecodedPhoto(_decode(path, data, header, photo, reduction=reduction), reduction)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise errors of the file system, met while the photo at `path` is read, as those that name it."""
    try:
        yield
    except OSError as error:
        if error.errno in _GONE:
            raise PhotoNotFoundError(f"{printable(path)}: no such file") from None
        if error.errno in _FORBIDDEN:
            raise UnreadablePhotoError(
                f"{printable(path)}: {error.strerror}; let this user read it, or leave it out"
            ) from None
        raise storage_error(error, doing=f"read the photo {printable(path)}") from None


def _measure(path: Path, data: bytes, max_megapixels: float) -> tuple[PhotoHeader, Photo]:
    header = read_header(path, data)
    width, height = header.upright_px
    kind = header.raw.kind if header.raw else ""
    photo = Photo(digest=blake3(data).hexdigest(), width_px=width, height_px=height, preview_of=kind)
    check_size(path, photo, max_megapixels=max_megapixels)
    return header, photo


def _decode(path: Path, data: bytes, header: PhotoHeader, photo: Photo, *, reduction: int) -> np.ndarray:
    """Return the upright pixels, `1/reduction` of the photo's size."""
    try:
        pixels = decode_pixels(data, header, reduction=reduction)
    except DECODER_ERRORS:
        pixels = None
    if pixels is None:
        raise UnreadablePhotoError(
            f"{printable(path)}: its pixels do not decode; open and save it again, or leave it out"
        )
    upright = _turned(pixels, header.orientation)
    rows, columns = -(-photo.height_px // reduction), -(-photo.width_px // reduction)
    if upright.shape != (rows, columns, 3):
        raise UnreadablePhotoError(
            f"{printable(path)}: decodes to {upright.shape[1]}x{upright.shape[0]} where {columns}x{rows} was expected;"
            " open and save it again, or leave it out"
        )
    return upright


def _read_bytes(path: Path) -> bytes:
    with reading(path):
        return path.read_bytes()


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    transpose, flip_rows, flip_columns = TURNS[orientation]
    if transpose:
        pixels = pixels.transpose(1, 0, 2)
    pixels = pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
    return np.ascontiguousarray(pixels)
