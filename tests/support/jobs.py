"""Photos and jobs small enough for tests."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from fanreel.job.parse import parse_job
from fanreel.job.slideshow import SlideshowJob


def draw_photo(path: Path, *, seed: int, size: tuple[int, int] = (640, 480)) -> Path:
    """Write a photo with detail at every scale, different for every seed."""
    rng = np.random.default_rng(seed)
    width, height = size
    picture = np.zeros((height, width, 3), np.float32)
    for scale in (4, 16, 64, 256):
        noise = rng.random((max(2, height * scale // 512), max(2, width * scale // 512), 3), np.float32)
        picture += cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC)
    picture = cv2.normalize(picture, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    cv2.putText(picture, str(seed), (width // 8, height // 2), cv2.FONT_HERSHEY_SIMPLEX, 3, (255, 255, 255), 6)
    cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 92])
    return path


def make_job(base: Path, **words: object) -> SlideshowJob:
    """Return a small, fast job below `base`: 320x180, 8 frames a second, drafts."""
    values: dict[str, object] = {
        "size": "320x180",
        "fps": "8",
        "photos": ["photos"],
        "seconds_per_slide": 4,
        "encoding": {"preset": "draft", "quality": 30},
        "output": "out/film.mp4",
        "base": str(base),
    }
    return parse_job(values | words)
