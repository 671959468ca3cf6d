"""The films that are measured, and where everything is made."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.photos import ROOT, write_benchmark_photos
from fanreel.host.host import Host, open_host
from fanreel.job.parse import parse_job
from fanreel.job.slideshow import SlideshowJob
from fanreel.plan.film import FilmPlan
from fanreel.render.here import plan_job
from fanreel.settings import Settings

__all__ = ["BENCH", "Bench", "environment", "fresh_folder", "host_in", "many_photos", "plan_of"]

BENCH = ROOT / ".bench"
MANY = 400
QUALITY = 21
ZOOM = 1.3


@dataclass(frozen=True, slots=True)
class Bench:
    """How long the films are and what they show.

    Attributes:
        photos: The twelve photos, in order.
        quick: Films so short that only the harness itself is tried.
        rounds: How often each contestant runs, in turns.
    """

    photos: tuple[Path, ...]
    quick: bool
    rounds: int

    @classmethod
    def prepare(cls, *, quick: bool, rounds: int) -> Bench:
        """Draw what is missing and return the bench."""
        return cls(tuple(write_benchmark_photos(BENCH / "photos")), quick, 1 if quick else rounds)

    def seconds(self, usual: float) -> float:
        """Return how long something is shown: a quick bench shows all of it for a second at most."""
        return min(1.0, usual) if self.quick else usual

    def film_job(self, output: Path, *, preset: str, seconds_per_slide: float = 6.0, **words: Any) -> SlideshowJob:
        """Return the film that contestants share: zooms in and out by turns, 12 photos of 6 s, 1080p, 30 fps."""
        photos = self.photos[:3] if self.quick else self.photos
        seconds = self.seconds(seconds_per_slide)
        slides = [
            {"photo": str(photo), "move": ("zoom-in", "zoom-out")[index % 2], "seconds": seconds}
            for index, photo in enumerate(photos)
        ]
        return make_job(output, preset=preset, slides=slides, **words)


def make_job(output: Path, *, preset: str, quality: int = QUALITY, **words: Any) -> SlideshowJob:
    """Return a 1080p job at 30 fps and the quality that all contestants share."""
    return parse_job(
        {
            "size": "1920x1080",
            "fps": "30",
            "zoom": ZOOM,
            "base": str(BENCH),
            "output": str(output),
            "encoding": {"encoder": "x264", "preset": preset, "quality": quality},
            **words,
        }
    )


def many_photos(photos: Sequence[Path], *, count: int = MANY) -> list[Path]:
    """Return `count` photos of different bytes: the given ones by turns, each with a comment of its own in its JPEG."""
    folder = BENCH / f"photos-{count}"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:03d}.jpg" for index in range(count)]
    for index, path in enumerate(paths):
        if not path.exists():
            data = photos[index % len(photos)].read_bytes()
            comment = f"{index:08d}".encode()
            part = path.with_suffix(".part")
            # A COM segment right after SOI. Source: ITU-T T.81, B.2.4.5.
            part.write_bytes(data[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2) + comment + data[2:])
            part.replace(path)
    return paths


def plan_of(job: SlideshowJob) -> FilmPlan:
    """Return the one film of a job."""
    (plan,) = plan_job(job, host=host_in(BENCH))
    return plan


def fresh_folder(name: str) -> Path:
    """Return an empty folder under the bench."""
    folder = BENCH / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def environment(store: Path) -> dict[str, str]:
    """Return the environment of a contestant: ours with an empty store, and no server of anybody's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "FANREEL_"))}
    return kept | {
        "FANREEL_STORE": str(store),
        "FANREEL_LOCK_FOLDER": str(BENCH / "locks"),
        "PYTHONPATH": str(ROOT),
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }


def host_in(folder: Path) -> Host:
    """Return this machine with a store in `folder`."""
    return open_host(Settings(store=folder / "store", lock_folder=BENCH / "locks"))


def job_file(job: SlideshowJob, folder: Path) -> Path:
    """Write a job for a child process to read; return its path."""
    path = folder / "job.json"
    path.write_text(json.dumps(job.model_dump(mode="json")))
    return path
