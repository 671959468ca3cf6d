"""The command `fanreel batch`: a film for each row of a table."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from fanreel.cli.host import opened_host
from fanreel.cli.render import render_shown
from fanreel.cli.terminal import say
from fanreel.errors import FanreelError
from fanreel.printable import counted, printable

if TYPE_CHECKING:
    from fanreel.batches.batch import BatchRow, RowFailure
    from fanreel.host.host import Host

__all__ = ["add_batch"]


def add_batch(batch: argparse.ArgumentParser) -> None:
    """Give the parser of `fanreel batch` its arguments and its work."""
    batch.add_argument("table", type=Path, metavar="JOBS.csv", help="a row a film; its header names keys of the job")
    batch.add_argument("--template", type=Path, required=True, metavar="JOB.yaml", help="the job that cells change")
    how = batch.add_mutually_exclusive_group()
    how.add_argument("--dry-run", action="store_true", help="check all rows and their photos, render nothing")
    how.add_argument(
        "--continue", dest="goes_on", action="store_true", help="leave out the rows that are wrong, render the others"
    )
    batch.set_defaults(run=_batch, keeps_segments=True)


def _batch(options: argparse.Namespace) -> int:
    """Check all rows, then make their films one by one; return 0, or the exit code of the first row that failed."""
    from fanreel.batches.batch import read_batch

    with opened_host() as host:
        batch = read_batch(options.table, template=options.template, settings=host.settings)
        sound, unsound = _for_each(batch.rows, lambda row: _check(row, host, shown=options.dry_run))
        failures = _sorted([*batch.failures, *unsound])
        if failures and not options.goes_on:
            raise type(failures[0].error)("\n".join(map(str, failures)))
        if options.dry_run:
            return 0
        for failure in failures:
            _say_failure(failure)
        made, unmade = _for_each(sound, lambda row: _make(row, host), on_failure=_say_failure)
    failures = _sorted([*failures, *unmade])
    failed = list(dict.fromkeys(f"row {failure.row}" if failure.row else "template" for failure in failures))
    say(f"{len(made)} of {len(made) + len(failed)} films made" + (f"; not: {', '.join(failed)}" if failed else ""))
    return failures[0].error.exit_code if failures else 0


def _for_each(
    rows: Iterable[BatchRow],
    work: Callable[[BatchRow], None],
    *,
    on_failure: Callable[[RowFailure], None] = lambda failure: None,
) -> tuple[list[BatchRow], list[RowFailure]]:
    """Do `work` for each row; return the rows for which it succeeded, and why it failed for the others."""
    done: list[BatchRow] = []
    failures: list[RowFailure] = []
    for row in rows:
        try:
            work(row)
            done.append(row)
        except FanreelError as error:
            failures.append(row.failure(error))
            on_failure(failures[-1])
    return done, failures


def _check(row: BatchRow, host: Host, *, shown: bool) -> None:
    """Raise an error if a row's photos cannot be read, or its film cannot be published."""
    from fanreel.publish.open import check_output
    from fanreel.render.here import plan_job

    for plan in plan_job(row.job, host=host):
        check_output(plan.output, overwrite=plan.overwrite, settings=host.settings)
        if shown:
            segments = counted(len(plan.segments), "segment")
            print(f"row {row.number}: {printable(plan.output)}: {plan.seconds:.2f} s, {segments}")


def _make(row: BatchRow, host: Host) -> None:
    say(f"row {row.number}: {printable(row.output)}")
    print(*render_shown(row.job, host), sep="\n\n", end="\n\n", flush=True)


def _say_failure(failure: RowFailure) -> None:
    say(f"fanreel: {failure}")


def _sorted(failures: Iterable[RowFailure]) -> list[RowFailure]:
    return sorted(failures, key=lambda failure: failure.row)
