"""Fetch: the job's photos, read, hashed and measured."""

from __future__ import annotations

from prefect import get_run_logger, task

from fanreel.host.host import current_host
from fanreel.intake.sources import fetch_sources
from fanreel.job.film import FilmJob
from fanreel.plan.kinds import FetchedSources
from tasks.names import name_task_run
from tasks.retries import RETRIED

__all__ = ["fetch"]


@task(name="fetch", task_run_name=name_task_run("fetch photos for"), **RETRIED)
def fetch(job: FilmJob) -> FetchedSources:
    """Return what the job's names led to. Warms the session launcher meanwhile, where the film is rendered here."""
    host = current_host()
    if not job.pools:  # 70 MB and seconds of a core, which a parent on pools has no use for
        host.launcher.warm()
    fetched = fetch_sources(job, settings=host.settings)
    log = get_run_logger()
    log.info("%s", fetched)
    for note in fetched.notes:
        log.info("note: %s", note)
    for reason in fetched.left_out:
        log.warning("left out: %s", reason)
    return fetched
