"""A photo's colours in sRGB: embedded profiles are applied, by LittleCMS and in bands of rows.

Relative colorimetric with black-point compensation: what is inside sRGB keeps its colour, what is outside is
clipped, and the black of a printing profile is black.
"""

from __future__ import annotations

import io
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageCms

__all__ = ["BAND_ROWS", "changes_colours", "convert_rows", "to_srgb"]

BAND_ROWS = 256
"""Rows that are converted at a time, so that memory holds no second copy of a large photo."""

PROFILES_KEPT = 8
"""Most albums come from one or two cameras; the profile of a printing press has up to 2 MB."""

# Pillow's mode of a picture -> the colour spaces that its profile may have.
_SPACES = {"L": ("GRAY", "RGB "), "RGB": ("RGB ",), "CMYK": ("CMYK",)}

_LARGEST_SAME = 1
"""A profile that moves no colour by more than this many codes of 255 is taken for sRGB, whatever its name is."""


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return a picture of mode L, RGB, CMYK or LAB as an RGB picture in sRGB.

    A profile that is damaged, or for another kind of colours than the picture's, is ignored. Without a profile, RGB
    and grey are sRGB already, CMYK is what its inks leave of each primary, and LAB is CIELAB of D50.
    """
    transform = _transform(profile or b"", image.mode)
    if transform is None:
        return image.convert("RGB")
    if transform.input_mode != transform.output_mode:
        return transform.apply(image)
    image = image.convert("RGB")
    transform.apply_in_place(image)
    return image


def convert_rows(bgr: np.ndarray, profile: bytes | None, *, mode: str) -> None:
    """Convert pixels to sRGB in place.

    Args:
        bgr: (height, width, 3) uint8.
        profile: ICC, if the photo has one.
        mode: "RGB", or "L" where the three channels are equal.
    """
    if profile is None or not changes_colours(profile, mode=mode):
        return
    for top in range(0, len(bgr), BAND_ROWS):
        band = bgr[top : top + BAND_ROWS]
        pixels = np.ascontiguousarray(band[:, :, 0]) if mode == "L" else cv2.cvtColor(band, cv2.COLOR_BGR2RGB)
        cv2.cvtColor(np.asarray(to_srgb(Image.fromarray(pixels), profile)), cv2.COLOR_RGB2BGR, dst=band)


def changes_colours(profile: bytes, *, mode: str) -> bool:
    """Return whether a profile is one for a mode's colours, and moves them."""
    return _transform(profile, mode) is not None


@lru_cache(maxsize=PROFILES_KEPT)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the transform from a mode's colours to sRGB; None if none is needed, or none can be made."""
    if not profile and mode != "LAB":
        return None
    try:
        source = _open_profile(profile, mode)
        if source is None:
            return None
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            "RGB" if mode == "L" and _space(source) == "RGB " else mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION | (ImageCms.Flags.HIGHRESPRECALC if mode == "LAB" else 0),
        )
        return None if mode in ("L", "RGB") and _changes_nothing(transform) else transform
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _open_profile(profile: bytes, mode: str) -> ImageCms.ImageCmsProfile | None:
    if mode == "LAB":
        return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return opened if _space(opened) in _SPACES.get(mode, ()) else None


def _space(profile: ImageCms.ImageCmsProfile) -> str:
    return profile.profile.xcolor_space  # pyright: ignore[reportAttributeAccessIssue]


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Return whether a transform leaves a lattice of colours, and all greys, as they are."""
    greys = np.arange(256, dtype=np.uint8)
    if transform.input_mode == "L":
        before = greys[None]
    else:
        steps = np.linspace(0, 255, 9).astype(np.uint8)
        lattice = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
        before = np.concatenate((lattice, np.stack((greys,) * 3, axis=-1)))[None]
    after = np.asarray(transform.apply(Image.fromarray(before))).astype(np.int16)
    wanted = before if before.ndim == 3 else before[:, :, None]
    return int(np.abs(after - wanted).max()) <= _LARGEST_SAME
