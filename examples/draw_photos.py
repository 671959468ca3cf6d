"""Draw sample photos, so that a first film needs no photo of yours and no download.

    python examples/draw_photos.py examples/photos

Every photo is drawn by code from a seed of its own: the same libraries give the same bytes. They differ as real
photos do: 7 to 12 megapixels, landscape, portrait, square and panorama, and one whose pixels lie on their side and
whose EXIF tag says so.
"""

from __future__ import annotations

import argparse
import os
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scenes import aurora, birches, city, dahlia, dunes, harbour, mountain, oldtown
from scenes.paint import Picture, finish

_QUALITY = 92
_UPRIGHT, _TURN_CLOCKWISE = 1, 6  # values of the EXIF orientation tag


@dataclass(frozen=True, slots=True)
class Photo:
    """One sample photo.

    Attributes:
        name: What the file is called, after its number.
        draw: Draws the scene from a random generator, a height and a width.
        width: Width in pixels, as seen.
        height: Height in pixels, as seen.
        orientation: EXIF orientation the file carries; with 6 the pixels are stored turned counter-clockwise.
    """

    name: str
    draw: Callable[[np.random.Generator, int, int], Picture]
    width: int
    height: int
    orientation: int = _UPRIGHT


PHOTOS = (
    Photo("mountain-dawn", mountain.draw, 4000, 3000),
    Photo("city-night", city.draw, 3600, 2400),
    Photo("birch-wood", birches.draw, 2400, 3600),
    Photo("desert-panorama", dunes.draw, 5600, 1600),
    Photo("harbour-evening", harbour.draw, 2400, 3200, _TURN_CLOCKWISE),
    Photo("dahlia-dew", dahlia.draw, 3200, 2400),
    Photo("northern-lights", aurora.draw, 3840, 2160),
    Photo("old-town", oldtown.draw, 2800, 2800),
)


def draw_photo(index: int, *, scale: float = 1.0) -> bytes:
    """Return the photo with this index (0 is the first) as a JPEG file; past the eighth the scenes come again, anew.

    Args:
        index: Which photo; also its seed.
        scale: Width and height are multiplied by this.
    """
    photo = PHOTOS[index % len(PHOTOS)]
    rng = np.random.default_rng([20, index])
    height, width = (max(64, round(side * scale)) for side in (photo.height, photo.width))
    canvas = finish(rng, photo.draw(rng, height, width))
    if photo.orientation == _TURN_CLOCKWISE:
        canvas = cv2.rotate(canvas, cv2.ROTATE_90_COUNTERCLOCKWISE)
    return _jpeg(canvas, photo.orientation)


def _jpeg(canvas: NDArray[np.uint8], orientation: int) -> bytes:
    """Return uint8 pixels (height, width, 3), blue first, as a JPEG file that carries the EXIF orientation."""
    done, data = cv2.imencode(".jpg", canvas, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not done:
        raise RuntimeError(f"OpenCV could not encode a picture of shape {canvas.shape} as JPEG")
    # A big-endian TIFF header, one directory with one entry: tag 0x0112, type SHORT, one value.
    tiff = b"MM\x00\x2a" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    body = b"Exif\x00\x00" + tiff
    start, rest = data[:2].tobytes(), data[2:].tobytes()
    return start + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + rest


def photo_path(folder: Path, index: int) -> Path:
    """Return where the photo with this index lies in the folder, such as `01-mountain-dawn.jpg`."""
    return folder / f"{index + 1:02d}-{PHOTOS[index % len(PHOTOS)].name}.jpg"


def write_photos(folder: Path, *, count: int = 8, scale: float = 1.0, force: bool = False) -> list[Path]:
    """Draw the first `count` photos into the folder and return their paths; those already there are kept.

    Args:
        folder: Made where it is missing.
        count: Number of photos.
        scale: Width and height are multiplied by this.
        force: Draw them again even if they are there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [photo_path(folder, index) for index in range(count)]
    for index, path in enumerate(paths):
        if force or not path.exists():
            started = time.perf_counter()
            _write(path, draw_photo(index, scale=scale))
            print(f"{path}  {path.stat().st_size / 1e6:.1f} MB  {time.perf_counter() - started:.1f} s", flush=True)
    return paths


def _write(path: Path, data: bytes) -> None:
    """Write the file under a temporary name and rename it, so that a photo that is there is a whole one."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, draw, and return the exit status."""
    parser = argparse.ArgumentParser(description="Draw sample photos for a first film.")
    parser.add_argument("folder", type=Path, help="where the photos go")
    parser.add_argument("--count", type=int, default=len(PHOTOS), help="number of photos (default: %(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies width and height (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="draw again what is already there")
    options = parser.parse_args(arguments)
    if options.count < 1 or not 0.02 <= options.scale <= 4:
        parser.error(f"--count {options.count} must be 1 or more, --scale {options.scale} between 0.02 and 4")
    write_photos(options.folder, count=options.count, scale=options.scale, force=options.force)
    return 0


if __name__ == "__main__":
    sys.exit(main())
