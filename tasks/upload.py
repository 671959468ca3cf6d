"""Upload: publish the film, and tell what became of the job."""

from __future__ import annotations

import base64
import contextlib
from pathlib import Path

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact

from fanreel.errors import FilmDamagedError
from fanreel.join.poster import draw_poster
from fanreel.printable import counted
from fanreel.render.draft import Draft
from fanreel.report.film_report import FilmReport
from tasks.artifacts import if_it_can_be_shown
from tasks.planned_film import PlannedFilm
from tasks.retries import RETRIED
from tasks.watch import film_run

__all__ = ["upload"]


@task(name="upload", task_run_name="upload {film.name}", **RETRIED)
def upload(film: PlannedFilm, draft: Draft) -> FilmReport:
    """Return what is to be told of the film, which is now under its final name."""
    poster = _poster(draft)
    report = film_run(film).publish(draft)
    with if_it_can_be_shown(f"the report of {film.name}"):
        create_markdown_artifact(f"{poster}```\n{report}\n```", key="film-report", description=film.name)
    made = f"{counted(report.photo_count, 'photo')}, {report.seconds:.2f} s, {report.size_bytes / 1e6:.1f} MB"
    get_run_logger().info("%s: %s", made, " ".join(filter(None, (report.film, report.link))))
    return report


def _poster(draft: Draft) -> str:
    """Return a picture of the film as a line of markdown; empty if none can be drawn, for the film is sound."""
    with contextlib.suppress(FilmDamagedError):
        picture = base64.b64encode(draw_poster(Path(draft.path))).decode()
        return f"![a frame of the film](data:image/jpeg;base64,{picture})\n\n"
    return ""
