"""The film that is encoded to measure with: photos drawn on the spot, planned like any other film."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from fanreel.errors import StorageError
from fanreel.intake.sources import fetch_sources
from fanreel.job.parse import parse_job
from fanreel.plan.film import FilmPlan
from fanreel.plan.kinds import plan_films
from fanreel.settings import Settings

__all__ = ["ReferenceFilm", "plan_reference_film"]

PHOTO_COUNT = 15
SLIDE_SECONDS = 16
"""Four minutes in all: no session, however fast, reaches the end while it is measured."""

ZOOM = 1.3


@dataclass(frozen=True, slots=True)
class ReferenceFilm:
    """The film that is encoded to measure.

    Attributes:
        width_px: Even.
        height_px: Even.
        frame_rate: As in a job.
        preset: As in a job.
    """

    width_px: int = 1920
    height_px: int = 1080
    frame_rate: str = "30"
    preset: str = "fast"

    def __str__(self) -> str:
        """The film in words."""
        return f"{self.width_px}x{self.height_px} at {self.frame_rate} fps, h264 {self.preset}"


def plan_reference_film(film: ReferenceFilm, folder: Path) -> FilmPlan:
    """Return the plan of the film, whose photos are drawn into `folder`.

    Raises:
        RequestError: A job may not have this size, rate or preset.
        StorageError: The photos cannot be written.
    """
    job = parse_job(
        {
            "size": f"{film.width_px}x{film.height_px}",
            "fps": film.frame_rate,
            "photos": ["."],
            "seconds_per_slide": SLIDE_SECONDS,
            "zoom": ZOOM,
            "encoding": {"preset": film.preset},
            "output": "film.mp4",
            "base": str(folder),
        }
    )
    _draw_photos(folder, size_px=(round(film.width_px * ZOOM), round(film.height_px * ZOOM)))
    fetched = fetch_sources(job, settings=Settings(store=folder))
    (plan,) = plan_films(job, fetched, output=str(folder / job.output))
    return plan


def _draw_photos(folder: Path, *, size_px: tuple[int, int]) -> None:
    """Write photos with detail at every scale, the same ones every time."""
    rng = np.random.default_rng(20_250_101)
    picture = np.zeros((size_px[1], size_px[0], 3), np.float32)
    for cells, strength in ((4, 96), (16, 64), (64, 32), (256, 12)):
        noise = rng.random((cells, cells, 3), np.float32)
        picture += strength * cv2.resize(noise, size_px, interpolation=cv2.INTER_CUBIC)
    drawn = np.clip(picture, 0, 255).astype(np.uint8)
    for index in range(PHOTO_COUNT):
        path = folder / f"photo-{index:02d}.jpg"
        photo = np.roll(drawn, index * size_px[0] // PHOTO_COUNT, axis=1)
        if not cv2.imwrite(str(path), photo, [cv2.IMWRITE_JPEG_QUALITY, 90]):
            raise StorageError(f"could not write {path}; free some space, or let FANREEL_STORE name another folder")
