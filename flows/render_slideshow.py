"""The flow `render-slideshow`: photos become a verified film.

`python -m flows.render_slideshow JOB.yaml` runs it here; `prefect.yaml` deploys it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

from prefect import flow, unmapped
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from fanreel.errors import FanreelError
from fanreel.job import SlideshowJob
from fanreel.media.host import current_host
from fanreel.media.sources import load_job
from fanreel.report import FilmReport
from tasks.concat import concat
from tasks.fetch import fetch
from tasks.plan import plan
from tasks.render import render
from tasks.upload import upload

__all__ = ["main", "render_slideshow"]


# Shards that may wait for a session at once; the gate decides how many have one.
_runner = cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=current_host().capacity.cores))


@flow(
    name="render-slideshow",
    flow_run_name="{job.output}",
    task_runner=_runner,
)
def render_slideshow(job: SlideshowJob) -> list[FilmReport]:
    """Make a Ken Burns film from photos."""
    stills = fetch(job)
    reports = []
    for film in plan(job, stills):
        rendered = render.map(film.order.shards, film=unmapped(film)).result()
        draft = concat(film, rendered)
        reports.append(upload(film, draft))
    return reports


def main(arguments: list[str]) -> int:
    """Run the flow on a job file; return the exit code of the command line."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m flows.render_slideshow JOB.yaml", file=sys.stderr)
        return 2
    try:
        reports = render_slideshow(load_job(Path(arguments[0])))
    except FanreelError as error:
        print(f"fanreel: {error}", file=sys.stderr)
        return error.exit_code
    print(*reports, sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
