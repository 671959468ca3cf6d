"""Upload: publish the film, and tell what became of the job."""

from __future__ import annotations

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact

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
    report = film_run(film).publish(draft)
    get_run_logger().info("%s is published, %.1f MB", report.film, draft.size_bytes / 1e6)
    with if_it_can_be_shown(f"the report of {film.name}"):
        create_markdown_artifact(f"```\n{report}\n```", key="film-report", description=film.name)
    return report
