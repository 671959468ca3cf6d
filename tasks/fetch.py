"""Fetch: the job's photos, read, hashed and measured."""

from __future__ import annotations

from prefect import get_run_logger, task

from fanreel.job import SlideshowJob
from fanreel.media.host import current_host
from fanreel.media.sources import fetch_stills
from fanreel.plan.film import Still
from tasks.names import name_task_run
from tasks.retries import ONCE

__all__ = ["fetch"]


@task(name="fetch", task_run_name=name_task_run("fetch photos for"), **ONCE)
def fetch(job: SlideshowJob) -> tuple[Still, ...]:
    """Return the job's slides in order. Warms the session launcher meanwhile."""
    host = current_host()
    host.launcher.warm()
    stills = fetch_stills(job, max_megapixels=host.settings.max_photo_megapixels)
    photos = {still.source.photo.digest for still in stills}
    get_run_logger().info("%d slides of %d photos", len(stills), len(photos))
    return stills
