"""The photos that every measurement is taken on: 12 of 12 to 24 megapixels, with grain, drawn by code.

    .venv/bin/python -m benchmarks.photos

They are the scenes of `examples/draw_photos.py` drawn larger. Each scene ends in film grain of a standard deviation
of 3 codes in every pixel; the samples' JPEG quality of 92 quantises most of it away, so these are written at 97, as
cameras do. Nothing is turned by EXIF: MoviePy ignores the tag, and its frames would not be comparable.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples"))
from draw_photos import PHOTOS, photo_path  # noqa: E402 -- its folder is put on the path above
from scenes.paint import finish  # noqa: E402

__all__ = ["PHOTO_COUNT", "photo_megapixels", "write_benchmark_photos"]

PHOTO_COUNT = 12
SMALLEST_MEGAPIXELS, LARGEST_MEGAPIXELS = 12.0, 24.0
MARGIN_MEGAPIXELS = 0.1  # so that rounded sides keep within the bounds
JPEG_QUALITY = 97


def photo_megapixels(index: int) -> float:
    """Return how many million pixels the photo with this index has: spread evenly over 12 to 24."""
    # Steps of 5 through 12 places: neighbours differ, and no place comes twice.
    place = index * 5 % PHOTO_COUNT / (PHOTO_COUNT - 1)
    spread = LARGEST_MEGAPIXELS - SMALLEST_MEGAPIXELS - 2 * MARGIN_MEGAPIXELS
    return SMALLEST_MEGAPIXELS + MARGIN_MEGAPIXELS + spread * place


def write_benchmark_photos(folder: Path) -> list[Path]:
    """Draw the photos that are not there yet, then leave a file `ready` beside them; return their paths in order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [photo_path(folder, index) for index in range(PHOTO_COUNT)]
    for index, path in enumerate(paths):
        if path.exists():
            continue
        part = path.with_suffix(".part")
        done, data = cv2.imencode(".jpg", _draw(index), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not done:
            raise RuntimeError(f"OpenCV could not encode photo {index} as JPEG")
        part.write_bytes(data.tobytes())
        part.replace(path)
        print(f"{path.name}  {photo_megapixels(index):.1f} MP  {path.stat().st_size / 1e6:.1f} MB", flush=True)
    (folder / "ready").touch()
    return paths


def _draw(index: int) -> NDArray[np.uint8]:
    photo = PHOTOS[index % len(PHOTOS)]
    scale = math.sqrt(photo_megapixels(index) * 1e6 / (photo.width * photo.height))
    rng = np.random.default_rng([24, index])
    return finish(rng, photo.draw(rng, round(photo.height * scale), round(photo.width * scale)))


if __name__ == "__main__":
    write_benchmark_photos(ROOT / ".bench" / "photos")
