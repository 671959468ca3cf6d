"""The flow `render-slideshow`: photos become a verified film.

`python -m flows.render_slideshow JOB.yaml` runs it here; `prefect.yaml` deploys it.
"""

from __future__ import annotations

import sys

from prefect import flow, unmapped

from fanreel.job.slideshow import SlideshowJob
from fanreel.report.film_report import FilmReport
from flows.command import run_job
from tasks.concat import concat
from tasks.dispatch import dispatch
from tasks.fetch import fetch
from tasks.names import name_flow_run
from tasks.plan import plan
from tasks.render import render
from tasks.runner import HOST_TASK_RUNNER
from tasks.upload import upload
from tasks.watch import watch_flow

__all__ = ["render_slideshow"]


@flow(name="render-slideshow", flow_run_name=name_flow_run, task_runner=HOST_TASK_RUNNER, persist_result=False)
def render_slideshow(job: SlideshowJob) -> list[FilmReport]:
    """Make a Ken Burns film from photos."""
    with watch_flow():
        fetched = fetch(job)
        reports = []
        for film in plan(job, fetched):
            if film.order.pools:
                dispatch.submit(film).result()
            else:
                render.map(film.order.shards, film=unmapped(film)).result()
            draft = concat(film)
            reports.append(upload(film, draft))
    return reports


if __name__ == "__main__":
    sys.exit(run_job(render_slideshow, sys.argv[1:]))
