"""The command `fanreel batch`: a film for each row of a table."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fanreel.errors import FanreelError, InvalidJobError

if TYPE_CHECKING:
    from fanreel.host.host import Host
    from fanreel.intake.batch import BatchRow
    from fanreel.job.slideshow import SlideshowJob
    from fanreel.report.film_report import FilmReport

    Render = Callable[[SlideshowJob, Host], Sequence[FilmReport]]

__all__ = ["add_batch"]


@dataclass(frozen=True, slots=True)
class _Failure:
    """A row that has no film, or, as row 0, a template that has none; a line of `text` for each reason."""

    row: int
    text: str
    error: FanreelError


def add_batch(batch: argparse.ArgumentParser, *, render: Render, say: Callable[[str], None]) -> None:
    """Give the parser of `fanreel batch` its arguments and its work.

    Args:
        batch: The parser.
        render: Makes the films of a job on a host, and shows how far it is.
        say: Tells the person a line.
    """
    batch.add_argument("table", type=Path, metavar="JOBS.csv", help="a row a film; its header names keys of the job")
    batch.add_argument("--template", type=Path, required=True, metavar="JOB.yaml", help="the job that cells change")
    how = batch.add_mutually_exclusive_group()
    how.add_argument("--dry-run", action="store_true", help="check all rows and their photos, render nothing")
    how.add_argument(
        "--continue", dest="goes_on", action="store_true", help="leave out the rows that are wrong, render the others"
    )
    batch.set_defaults(run=lambda options: _batch(options, render, say), keeps_segments=True)


def _batch(options: argparse.Namespace, render: Render, say: Callable[[str], None]) -> int:
    """Check all rows, then make their films one by one; return 0, or the exit code of the first row that failed."""
    from fanreel.host.host import open_host
    from fanreel.intake.batch import read_batch
    from fanreel.settings import read_settings

    host = open_host(read_settings())
    batch = read_batch(options.table, template=options.template, settings=host.settings)
    failures = [_Failure(mistake.row, mistake.text, InvalidJobError(mistake.text)) for mistake in batch.mistakes]
    with contextlib.closing(host.launcher):
        sound = [row for row in batch.rows if _passes(row, host, failures, shown=options.dry_run)]
        failures.sort(key=lambda failure: failure.row)
        if failures and not options.goes_on:
            raise type(failures[0].error)("\n".join(failure.text for failure in failures))
        if options.dry_run:
            return 0
        for failure in failures:
            say(f"fanreel: {failure.text}")
        made = sum(_makes(row, host, failures, render, say) for row in sound)
    failures.sort(key=lambda failure: failure.row)
    failed = ", ".join(dict.fromkeys(f"row {failure.row}" if failure.row else "template" for failure in failures))
    say(
        f"{made} of {made + len({failure.row for failure in failures})} films made"
        + (f"; not: {failed}" if failed else "")
    )
    return failures[0].error.exit_code if failures else 0


def _passes(row: BatchRow, host: Host, failures: list[_Failure], *, shown: bool) -> bool:
    """Return whether a row's photos can be read and its film be published; add to `failures` why not."""
    from fanreel.render.draft import destination_of
    from fanreel.render.here import plan_job

    try:
        for plan in plan_job(row.job, host=host):
            destination_of(plan, settings=host.settings).check()
            if shown:
                print(f"row {row.number}: {plan.output}: {plan.seconds:.2f} s, {len(plan.segments)} segments")
    except FanreelError as error:
        failures.append(_failure(row, error))
        return False
    return True


def _makes(row: BatchRow, host: Host, failures: list[_Failure], render: Render, say: Callable[[str], None]) -> bool:
    """Return whether a row's film was made; add to `failures` why not."""
    say(f"row {row.number}: {row.output}")
    try:
        reports = render(row.job, host)
    except FanreelError as error:
        failures.append(_failure(row, error))
        say(f"fanreel: {failures[-1].text}")
        return False
    print(*reports, sep="\n\n", end="\n\n")
    sys.stdout.flush()
    return True


def _failure(row: BatchRow, error: FanreelError) -> _Failure:
    """Return what an error says, each line with its row, and with its column if it is about a cell."""
    lines = str(error).splitlines()
    places = [
        f"row {row.number}, column" if line.partition(":")[0] in row.cells else f"row {row.number}:" for line in lines
    ]
    return _Failure(row.number, "\n".join(f"{place} {line}" for place, line in zip(places, lines, strict=True)), error)
