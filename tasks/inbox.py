"""Inbox: look into it, make the films that are to be made, tell what became of each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from prefect import State, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.runtime import flow_run

from fanreel.batches.inbox_films import FilmState, InboxOrder, InboxRow, look_into_inbox
from fanreel.errors import FanreelError
from fanreel.host.host import current_host
from fanreel.job.film import FilmJob
from fanreel.render.inbox import make_inbox_film
from fanreel.report.film_report import FilmReport
from tasks.artifacts import if_it_can_be_shown
from tasks.retries import ONCE, RETRIED

__all__ = ["look_into", "make_film", "name_inbox_run", "tell"]


def name_inbox_run() -> str:
    """Return the name of the present flow run: the inbox's."""
    return f"inbox {flow_run.parameters['inbox']}"


@task(name="look into the inbox", **RETRIED)
def look_into(order: InboxOrder) -> list[InboxRow]:
    """Return a row for each sub-folder of the inbox."""
    rows, ignored = look_into_inbox(order, settings=current_host().settings)
    log = get_run_logger()
    for line in ignored:
        log.warning("ignored: %s", line)
    for row in rows:
        for note in row.notes:
            log.info("%s: %s", row.name, note)
    counts = {state: sum(row.state is state for row in rows) for state in FilmState}
    log.info("%d sub-folders: %s", len(rows), ", ".join(f"{count} {state}" for state, count in counts.items() if count))
    return rows


def make_film(row: InboxRow, order: InboxOrder, *, render: Callable[[FilmJob], State[Any]]) -> InboxRow:
    """Make the film of a row if it is to be made; return what became of it.

    No task of its own: the flow run that `render` starts stands for it.

    Args:
        row: A sub-folder.
        order: As it was looked into.
        render: Starts the flow that makes a film, and returns its final state.
    """
    made = make_inbox_film(row, order, render=lambda job: _report_of(render(job)))
    if made is not row:
        get_run_logger().log(logging.WARNING if made.error else logging.INFO, "%s", made)
    return made


@task(name="tell", **ONCE)
def tell(rows: Sequence[InboxRow]) -> None:
    """Show the rows as a table.

    Raises:
        FanreelError: Some are broken; of the kind of the first one's, so that it has its exit code.
    """
    table = [{"sub-folder": row.name, "film": str(row.state), "where or why": _detail(row)} for row in rows]
    with if_it_can_be_shown("the inbox"):
        create_table_artifact(table, key="inbox", description=f"{len(rows)} sub-folders")
    broken = [row for row in rows if row.error is not None]
    if broken:
        head = f"{len(broken)} of {len(rows)} sub-folders are broken, and tried again next time:"
        raise _error_of(broken[0])("\n".join([head, *(f"{row.name}: {row.detail}" for row in broken)]))


def _detail(row: InboxRow) -> str:
    return "\n".join([row.detail, *row.notes])


def _error_of(row: InboxRow) -> type[FanreelError]:
    return type(row.error) if row.error is not None else FanreelError


def _report_of(state: State[Any]) -> FilmReport:
    """Return the report of the film that a flow run made.

    Raises:
        FanreelError: It made none. An error that is not ours is told as one that is, for the sake of the other films.
    """
    if state.is_completed():
        return state.result()[0]
    error = state.result(raise_on_failure=False)
    if isinstance(error, FanreelError):
        raise error
    raise FanreelError(f"the flow run of the film ended as {state.name}: {state.message or error}")
