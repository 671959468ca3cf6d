"""Fetch: the job's photos, read, hashed and measured."""

from __future__ import annotations

from prefect import get_run_logger, task

from fanreel.host.host import current_host
from fanreel.intake.sources import fetch_stills
from fanreel.job.slideshow import SlideshowJob
from fanreel.plan.film import FetchedStills
from tasks.names import name_task_run
from tasks.retries import RETRIED

__all__ = ["fetch"]


@task(name="fetch", task_run_name=name_task_run("fetch photos for"), **RETRIED)
def fetch(job: SlideshowJob) -> FetchedStills:
    """Return the job's slides in order, and what was left out. Warms the session launcher meanwhile."""
    host = current_host()
    host.launcher.warm()
    fetched = fetch_stills(job, settings=host.settings)
    photos = {still.source.photo.digest for still in fetched.stills}
    log = get_run_logger()
    log.info("%d slides of %d photos", len(fetched.stills), len(photos))
    for reason in fetched.left_out:
        log.warning("left out: %s", reason)
    return fetched
