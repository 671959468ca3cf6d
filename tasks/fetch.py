"""Fetch: the job's photos, read, hashed and measured."""

from __future__ import annotations

from prefect import task

from fanreel.job import SlideshowJob
from fanreel.media.host import current_host
from fanreel.media.sources import fetch_stills
from fanreel.plan.film import Still

__all__ = ["fetch"]


@task(name="fetch", task_run_name="fetch photos for {job.output}")
def fetch(job: SlideshowJob) -> tuple[Still, ...]:
    """Return the job's slides in order. Warms the session launcher meanwhile."""
    host = current_host()
    host.launcher.warm()
    return fetch_stills(job, max_megapixels=host.settings.max_photo_megapixels)
