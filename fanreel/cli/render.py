"""The commands `fanreel render` and `fanreel plan`."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING

from fanreel.cli.host import opened_host, session_count
from fanreel.cli.request import add_request, read_request
from fanreel.cli.terminal import ProgressDisplay, say
from fanreel.printable import printable

if TYPE_CHECKING:
    from fanreel.host.host import Host
    from fanreel.job.film import FilmJob
    from fanreel.plan.film import FilmPlan
    from fanreel.render.order import RenderOrder
    from fanreel.report.film_report import FilmReport

__all__ = ["add_plan", "add_render", "render_shown"]

log = logging.getLogger(__name__)


def add_render(render: argparse.ArgumentParser) -> None:
    """Give the parser of `fanreel render` its arguments and its work."""
    add_request(render)
    render.add_argument(
        "--sessions",
        type=session_count,
        metavar="N",
        help="encoder sessions at once, in place of the job's own; 0 for what fits",
    )
    render.set_defaults(run=_render, keeps_segments=True)


def add_plan(plan: argparse.ArgumentParser) -> None:
    """Give the parser of `fanreel plan` its arguments and its work."""
    add_request(plan)
    plan.add_argument("--json", action="store_true", help="the whole plan, for programs")
    plan.set_defaults(run=_plan)


def _render(options: argparse.Namespace) -> int:
    job = read_request(options)
    if options.sessions is not None:
        job = job.with_machines(sessions=options.sessions)
    if job.pools:
        say(f"render_on names work pools, {', '.join(job.pools)}, which a Prefect flow hands films to; rendered here")
    with opened_host() as host:
        reports = render_shown(job, host)
    print(*reports, sep="\n\n")
    return 0


def render_shown(job: FilmJob, host: Host) -> list[FilmReport]:
    """Make the films of a job on a host and show the progress; return their reports."""
    from fanreel.render.here import render_job
    from fanreel.render.order import describe_order

    display = ProgressDisplay()

    def show_film(plan: FilmPlan, order: RenderOrder) -> None:
        display.clear()
        say(f"{describe_order(plan, order)}; makes {printable(plan.output)}")
        if order.shards:
            log.info("%s", order.sessions.reason)

    try:
        return render_job(job, host=host, on_film=show_film, on_progress=display.show, on_retry=display.show_retry)
    finally:
        display.clear()


def _plan(options: argparse.Namespace) -> int:
    from fanreel.plan.film import plan_to_json
    from fanreel.render.here import plan_job
    from fanreel.report.film_plan_text import describe_plan

    with opened_host() as host:
        for plan in plan_job(read_request(options), host=host):
            print(plan_to_json(plan).decode() if options.json else describe_plan(plan, with_reasons=options.verbose))
    return 0
