"""What every test shares: a host of its own, small photos, small jobs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from fanreel.job import SlideshowJob, parse_job
from fanreel.media.host import Host, open_host
from fanreel.settings import Settings


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


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A host whose store and locks are this test's own."""
    opened = open_host(
        Settings(store=tmp_path / "store", lock_folder=tmp_path / "locks", hang_seconds=60, wait_seconds=120)
    )
    yield opened
    opened.launcher.close()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of four small photos."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(4):
        draw_photo(folder / f"photo-{seed}.jpg", seed=seed)
    return folder


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
