"""A real segment, rendered once for all tests, to be put into stores."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from support.jobs import draw_photo, make_job

from fanreel.host.host import open_host
from fanreel.plan.film import FilmPlan
from fanreel.render.here import plan_job
from fanreel.segments.record import SegmentRecord
from fanreel.sessions.messages import SegmentMade, ShardRequest
from fanreel.settings import Settings


@dataclass(frozen=True)
class Made:
    """A real segment, waiting to be stored."""

    plan: FilmPlan
    record: SegmentRecord
    path: Path

    def copy(self, folder: Path) -> Path:
        """Return a file of the caller's own that holds the segment."""
        folder.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(self.path, folder / "made.mp4"))


_MADE: list[Made] = []


def make_segment(folder: Path) -> Made:
    """Return the one segment of a small film, rendered in `folder` when it is first asked for."""
    if not _MADE:
        _MADE.append(_render(folder))
    return _MADE[0]


def _render(folder: Path) -> Made:
    draw_photo(folder / "photo.jpg", seed=1)
    host = open_host(Settings(store=folder / "store", lock_folder=folder / "locks"))
    plan = plan_job(make_job(folder, photos=["photo.jpg"]), host=host)[0]
    with host.launcher.start(locks=[]) as session:
        messages = list(session.render(ShardRequest(plan, plan.segments, 1, str(folder), "x264"), hang_seconds=60))
    (segment,) = (message for message in messages if isinstance(message, SegmentMade))
    host.launcher.close()
    return Made(plan, segment.record, Path(segment.path))
