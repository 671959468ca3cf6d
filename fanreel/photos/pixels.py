"""The pixels of a photo as they are stored, in sRGB and over black.

OpenCV decodes grey and RGB of 8 bits, and samples of 16 bits: these it decodes right, and fastest. libheif decodes
HEIF, and Pillow all the rest.
"""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from fanreel.colour.profiles import BAND_ROWS, convert_rows, to_srgb
from fanreel.photos.header import JPEG_FORMATS, PhotoHeader, open_heif, open_image

__all__ = ["REDUCTIONS", "can_reduce", "decode_pixels"]

_REDUCED = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
REDUCTIONS = tuple(_REDUCED)
"""How many times smaller a JPEG can be decoded, along either side."""


def can_reduce(header: PhotoHeader) -> bool:
    """Return whether the photo can be decoded smaller.

    Only the JPEG decoder makes a smaller picture with less work; others would decode it whole and then resample it.
    """
    return header.format in JPEG_FORMATS and header.mode in ("L", "RGB")


def decode_pixels(data: bytes, header: PhotoHeader, *, reduction: int) -> np.ndarray | None:
    """Return the pixels: (height, width, 3) uint8 BGR, not yet turned; None if they do not decode.

    What is transparent is shown over black, mixed in sRGB's own codes as browsers do.

    Args:
        data: The file.
        header: What its header says.
        reduction: One of `REDUCTIONS`; 1 unless `can_reduce`.
    """
    if header.format == "HEIF":
        return _decode_heif(data, header)
    if header.is_deep:
        return _decode_deep(data, header)
    if not _is_plain(header):
        return _decode_with_pillow(data, header)
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), _REDUCED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION)
    if bgr is not None:
        convert_rows(bgr, header.profile, mode=header.mode)
    return bgr


def _is_plain(header: PhotoHeader) -> bool:
    """Return whether OpenCV decodes it right, and without words: libpng prints a warning about many profiles."""
    if header.format == "TIFF" or (header.format == "PNG" and header.profile is not None):
        return False
    return header.mode in ("L", "RGB") and not header.has_alpha and not header.is_animated


def _decode_heif(data: bytes, header: PhotoHeader) -> np.ndarray:
    image = open_heif(data)
    pixels = np.asarray(image)[:, : image.size[0]]
    if pixels.ndim == 2 or pixels.shape[2] == 2:
        grey = pixels if pixels.ndim == 2 else pixels[:, :, 0]
        bgr, mode = np.repeat(grey[:, :, None], 3, axis=2), "L"
    else:
        bgr, mode = np.array(pixels[:, :, :3]), "RGB"
    convert_rows(bgr, header.profile, mode=mode)
    if image.has_alpha and not image.premultiplied_alpha:
        _fade(bgr, pixels[:, :, -1])
    return bgr


def _decode_deep(data: bytes, header: PhotoHeader) -> np.ndarray | None:
    samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None or samples.dtype != np.uint16:
        return None
    if samples.ndim == 2:
        samples = samples[:, :, None]
    bgr = np.empty((*samples.shape[:2], 3), np.uint8)
    for top in range(0, len(bgr), BAND_ROWS):
        band = samples[top : top + BAND_ROWS]
        bgr[top : top + BAND_ROWS] = _to_8_bits(band[:, :, :3])
        if header.is_inverted:
            bgr[top : top + BAND_ROWS] ^= 255
    convert_rows(bgr, header.profile, mode="L" if header.is_grey else "RGB")
    if not header.has_alpha:
        return bgr
    for top in range(0, len(bgr), BAND_ROWS):
        band = samples[top : top + BAND_ROWS]
        opaque = band[:, :, 3] if band.shape[2] == 4 else (band[:, :, 0] != header.clear_grey) * np.uint16(65535)
        _fade(bgr[top : top + BAND_ROWS], _to_8_bits(opaque))
    return bgr


def _to_8_bits(samples: np.ndarray) -> np.ndarray:
    """Return 16-bit samples rounded to 8, 65535 to 255."""
    return ((samples.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _decode_with_pillow(data: bytes, header: PhotoHeader) -> np.ndarray:
    with open_image(data) as image:
        image.load()
        width, height = image.size
        bgr = np.empty((height, width, 3), np.uint8)
        for top in range(0, height, BAND_ROWS):
            band = image.crop((0, top, width, min(height, top + BAND_ROWS)))
            bgr[top : top + BAND_ROWS] = _shown_colours(band, header)
    return bgr


def _shown_colours(image: Image.Image, header: PhotoHeader) -> np.ndarray:
    """Return some rows in sRGB and over black, (height, width, 3) uint8 BGR."""
    alpha = None
    if header.has_alpha:
        image = image.convert("LA" if image.mode in ("LA", "La") else "RGBA")
        alpha = image.getchannel("A")
        image = image.convert("L" if image.mode == "LA" else "RGB")
    elif image.mode not in ("L", "CMYK", "LAB"):
        image = image.convert("RGB")
    bgr = np.array(to_srgb(image, header.profile))[:, :, ::-1]
    if alpha is not None:
        _fade(bgr, np.asarray(alpha))
    return bgr


def _fade(bgr: np.ndarray, alpha: np.ndarray) -> None:
    """Show in place what is transparent over black."""
    if alpha.min() < 255:
        bgr[:] = (bgr.astype(np.uint16) * alpha[:, :, None] + 127) // 255
