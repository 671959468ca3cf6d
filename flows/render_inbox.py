"""The flow `render-inbox`: each sub-folder of an inbox becomes a film, once.

`python -m flows.render_inbox INBOX` runs it here; `prefect.yaml` deploys it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any

from prefect import Flow, State, flow
from pydantic import Field

from fanreel.batches.inbox import LONGEST_QUIET_SECONDS, CompleteWhen
from fanreel.batches.inbox_films import InboxRow, order_inbox
from fanreel.errors import FanreelError, InvalidJobError
from fanreel.job.film import FilmJob, FilmKind
from fanreel.report.film_report import FilmReport
from flows.command import run_inbox
from flows.render_slideshow import render_slideshow
from tasks.inbox import look_into, make_film, name_inbox_run, tell
from tasks.retries import flow_failed

__all__ = ["render_inbox"]

NO_INBOX = (
    "inbox: it is not set; give it here, or for every night: prefect variable set fanreel_inbox /films/inbox && "
    "python -m deployments.apply"
)

_FLOWS: Mapping[FilmKind, Flow[..., Any]] = {FilmKind.SLIDESHOW: render_slideshow}


@flow(name="render-inbox", flow_run_name=name_inbox_run, persist_result=False)
def render_inbox(
    inbox: str,
    output: str = "",
    ready: str = ".ready",
    complete_when: CompleteWhen = CompleteWhen.EITHER,
    quiet_seconds: Annotated[float, Field(ge=0, le=LONGEST_QUIET_SECONDS)] = 60,
    render_on: str = "here",
) -> list[InboxRow] | State[list[InboxRow]]:
    """Make a film of each sub-folder that is complete and was not made before.

    Args:
        inbox: Absolute folder of the worker, or s3://bucket/prefix/. Each of its sub-folders that holds photos is a
            film; a job.yaml in there says how it is to be. The variable fanreel_inbox fills it in for every night.
        output: Where the films go: a folder, or s3://bucket/prefix/. Beside the sub-folders if left out.
        ready: Name of the file whose presence says that a sub-folder is complete.
        complete_when: What counts as complete: the marker, that nothing changed for a while, or either.
        quiet_seconds: How long that while is.
        render_on: Where films are rendered whose job.yaml does not say: here, or work pools with commas between them,
            the preferred one first.
    """
    try:
        if not inbox:
            raise InvalidJobError(NO_INBOX)
        order = order_inbox(
            inbox,
            films=output,
            marker=ready,
            complete_when=complete_when,
            quiet_seconds=quiet_seconds,
            render_on=render_on,
        )
        rows = [make_film(row, order, render=_render) for row in look_into(order)]
        tell(rows)
    except FanreelError as error:
        return flow_failed(error)
    return rows


def _render(job: FilmJob) -> State[list[FilmReport]]:
    return _FLOWS[job.film](job, return_state=True)


if __name__ == "__main__":
    sys.exit(run_inbox(render_inbox, sys.argv[1:]))
