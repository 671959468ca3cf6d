"""The flow `render-slideshow`: photos become a verified film.

`python -m flows.render_slideshow JOB.yaml` runs it here; `prefect.yaml` deploys it.
"""

from __future__ import annotations

import sys

from prefect import State, flow, unmapped

from fanreel.errors import FanreelError
from fanreel.job.parse import check_job
from fanreel.job.slideshow import SlideshowJob
from fanreel.report.film_report import FilmReport
from flows.command import run_job
from tasks.concat import concat
from tasks.dispatch import dispatch
from tasks.fetch import fetch
from tasks.names import name_flow_run
from tasks.plan import plan
from tasks.render import render
from tasks.retries import flow_failed
from tasks.runner import HOST_TASK_RUNNER
from tasks.upload import upload
from tasks.watch import watch_flow

__all__ = ["render_slideshow"]


# The job is checked in the body, which says in words of ours what is wrong with it.
@flow(
    name="render-slideshow",
    flow_run_name=name_flow_run,
    task_runner=HOST_TASK_RUNNER,
    persist_result=False,
    validate_parameters=False,
)
def render_slideshow(job: SlideshowJob) -> list[FilmReport] | State[list[FilmReport]]:
    """Make a Ken Burns film from photos."""
    try:
        checked = check_job(job)
        with watch_flow():
            fetched = fetch(checked)
            reports = []
            for film in plan(checked, fetched):
                if film.order.pools:
                    dispatch.submit(film).result()
                else:
                    render.map(film.order.shards, film=unmapped(film)).result()
                draft = concat(film)
                reports.append(upload(film, draft))
    except FanreelError as error:
        return flow_failed(error)
    return reports


if __name__ == "__main__":
    sys.exit(run_job(render_slideshow, sys.argv[1:]))
