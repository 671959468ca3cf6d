"""The pixels of a photo as they are stored, in sRGB and over black.

OpenCV decodes grey and RGB of 8 bits, and samples of more bits: these it decodes right, and fastest. libheif decodes
HEIF, and Pillow all the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
from PIL import ImageChops

from fanreel.colour.profiles import BAND_ROWS, to_srgb
from fanreel.colour.samples import convert_samples, highlights_peak
from fanreel.photos.header import JPEG_FORMATS, PhotoHeader, bare_file, open_heif, open_image

__all__ = ["LARGEST_REDUCTION", "REDUCTIONS", "can_reduce", "decode_pixels"]

REDUCTIONS = (1, 2, 4)
"""How many times smaller a JPEG is decoded for a film, along either side."""

LARGEST_REDUCTION = 8
"""The least work that still reads all of a JPEG's data."""

_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    LARGEST_REDUCTION: cv2.IMREAD_REDUCED_COLOR_8,
}

_PEAK_PIXELS = 1 << 18  # about so many, on a lattice, are looked at to find the brightest


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
        reduction: One of `REDUCTIONS`, or `LARGEST_REDUCTION`; 1 unless `can_reduce`.
    """
    if header.raw and header.raw.preview:
        data = data[slice(*header.raw.preview)]
    data = bare_file(data)
    if header.format == "HEIF":
        return _decode_heif(data, header)
    if not header.is_deep and not _is_plain(header):
        return _decode_with_pillow(data, header)
    if header.is_deep:
        return _decode_deep(data, header)
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), _REDUCED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION)
    if bgr is not None and (header.profile or header.signal):
        _convert(bgr if header.mode == "RGB" else bgr[:, :, :1], header, into=bgr)
    return bgr


def _is_plain(header: PhotoHeader) -> bool:
    """Return whether OpenCV decodes it right."""
    return header.format != "TIFF" and header.mode in ("L", "RGB") and not header.has_alpha and not header.is_animated


def _convert(
    samples: np.ndarray, header: PhotoHeader, *, into: np.ndarray, read: Callable[[np.ndarray], np.ndarray] = np.asarray
) -> None:
    """Write what samples show in sRGB, in bands, so that memory holds no second copy of a large photo.

    Args:
        samples: (height, width, 1 or more), BGR or grey first; uint8 or uint16.
        header: What they mean.
        into: (height, width, 3) uint8 BGR.
        read: Makes samples of `header.bits` from some of them.
    """
    colours = samples[:, :, : 1 if samples.shape[2] < 3 else 3]
    peak = None
    if header.signal and header.signal.is_hdr:
        step = max(1, math.isqrt(colours.shape[0] * colours.shape[1] // _PEAK_PIXELS))
        few = read(colours[::step, ::step])
        peak = highlights_peak(few, bits=header.bits, signal=header.signal)
    for top in range(0, len(into), BAND_ROWS):
        into[top : top + BAND_ROWS] = convert_samples(
            read(colours[top : top + BAND_ROWS]),
            bits=header.bits,
            top=top,
            profile=header.profile,
            signal=header.signal,
            peak=peak,
        )


def _decode_heif(data: bytes, header: PhotoHeader) -> np.ndarray:
    image = open_heif(data)
    pixels = np.asarray(image)[:, : image.size[0]]
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    bgr = np.empty((*pixels.shape[:2], 3), np.uint8)
    # libheif puts the bits of deep samples into the upper ones of 16.
    _convert(pixels, header, into=bgr, read=lambda band: band >> (16 - header.bits) if header.is_deep else band)
    if image.has_alpha and not image.premultiplied_alpha:
        _fade(bgr, pixels[:, :, -1] >> (8 if header.is_deep else 0))
    return bgr


def _decode_deep(data: bytes, header: PhotoHeader) -> np.ndarray | None:
    samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None or samples.dtype != np.uint16:
        return None
    samples = samples[:, :, None] if samples.ndim == 2 else samples
    most = np.uint16((1 << header.bits) - 1)
    bgr = np.empty((*samples.shape[:2], 3), np.uint8)
    _convert(samples, header, into=bgr, read=lambda band: most - band if header.is_inverted else band)
    if not header.has_alpha:
        return bgr
    for top in range(0, len(bgr), BAND_ROWS):
        band = samples[top : top + BAND_ROWS]
        opaque = band[:, :, 3] if band.shape[2] == 4 else (band[:, :, 0] != header.clear_grey) * most
        _fade(bgr[top : top + BAND_ROWS], ((opaque.astype(np.uint32) * 255 + most // 2) // most).astype(np.uint8))
    return bgr


def _decode_with_pillow(data: bytes, header: PhotoHeader) -> np.ndarray:
    with open_image(data) as image:
        image.load()
        width, height = image.size
        bgr = np.empty((height, width, 3), np.uint8)
        alpha = np.empty((height, width), np.uint8) if header.has_alpha else None
        for top in range(0, height, BAND_ROWS):
            band = image.crop((0, top, width, min(height, top + BAND_ROWS)))
            if band.mode in ("CMYK", "LAB"):
                band = ImageChops.invert(band) if header.is_inverted else band
                bgr[top : top + BAND_ROWS] = np.asarray(to_srgb(band, header.profile))[:, :, ::-1]
                continue
            if alpha is not None:
                band = band.convert("LA" if band.mode in ("LA", "La") else "RGBA")
                alpha[top : top + BAND_ROWS] = np.asarray(band.getchannel("A"))
            bgr[top : top + BAND_ROWS] = np.asarray(band.convert("RGB"))[:, :, ::-1]
    if image.mode not in ("CMYK", "LAB") and (header.profile or header.signal):
        is_grey = image.mode in ("L", "LA", "La")
        _convert(bgr[:, :, :1] if is_grey else bgr, header, into=bgr)
    if alpha is not None:
        _fade(bgr, alpha)
    return bgr


def _fade(bgr: np.ndarray, alpha: np.ndarray) -> None:
    """Show in place what is transparent over black."""
    if alpha.min() < 255:
        bgr[:] = (bgr.astype(np.uint16) * alpha[:, :, None] + 127) // 255
