"""Upload: publish the film, and tell what became of the job."""

from __future__ import annotations

import time

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact

from fanreel.host.host import current_host
from fanreel.render.film import Draft, publish_film, report_film
from fanreel.render.film_state import mark_published
from fanreel.report.film_report import FilmReport
from tasks.artifacts import if_it_can_be_shown
from tasks.planned_film import PlannedFilm
from tasks.retries import RETRIED
from tasks.watch import watch_film

__all__ = ["upload"]


@task(name="upload", task_run_name="upload {film.name}", **RETRIED)
def upload(film: PlannedFilm, draft: Draft) -> FilmReport:
    """Return what is to be told of the film, which is now under its final name."""
    plan, watch = current_host().store.get_plan(film.plan), watch_film(film)
    published = publish_film(plan, draft, settings=current_host().settings)
    mark_published(current_host().store, plan)
    report = report_film(
        plan,
        film.order,
        draft,
        film=published,
        fps=watch.finish().fps,
        seconds=time.time() - film.planned_at,
        rendered=watch.made_count,
        settings=current_host().settings,
    )
    get_run_logger().info("%s is published, %.1f MB", published, draft.size_bytes / 1e6)
    with if_it_can_be_shown(f"the report of {film.name}"):
        create_markdown_artifact(f"```\n{report}\n```", key="film-report", description=film.name)
    return report
