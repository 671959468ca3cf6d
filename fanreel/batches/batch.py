"""Batches: a table in which every row is a film, and the job file that the rows have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fanreel.batches.columns import Column, read_header
from fanreel.batches.csv_table import read_table
from fanreel.errors import FanreelError, InvalidJobError
from fanreel.intake.job_file import base_folder, read_raw_job
from fanreel.intake.paths import one_spelling
from fanreel.intake.sources import output_location
from fanreel.job.film import FilmJob
from fanreel.job.machines import gather_machines
from fanreel.job.mistakes import explain_mistakes, place_of
from fanreel.job.parse import job_model
from fanreel.printable import printable
from fanreel.settings import Settings

__all__ = ["Batch", "BatchRow", "RowFailure", "read_batch"]


@dataclass(frozen=True, slots=True)
class RowFailure:
    """Why a row has no film, or why the template makes none.

    Attributes:
        row: The row's number, as a spreadsheet counts; 0 for the template.
        error: What is wrong; each line of its message names the row or the template.
    """

    row: int
    error: FanreelError

    def __str__(self) -> str:
        """Return the lines that people see."""
        return str(self.error)


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A row of the table that is a sound job.

    Attributes:
        number: The row's number, as a spreadsheet counts: the header is row 1.
        job: The row's job.
        output: Where its film goes.
        columns: Names of the columns in which the row has a cell that is not empty.
    """

    number: int
    job: FilmJob
    output: str
    columns: tuple[str, ...] = ()

    def failure(self, error: FanreelError) -> RowFailure:
        """Return `error` as this row's failure: each line with the row, and the column if the line is about a cell."""
        lines = [
            f"row {self.number}{', column ' if line.partition(':')[0] in self.columns else ': '}{line}"
            for line in str(error).splitlines()
        ]
        return RowFailure(self.number, type(error)("\n".join(lines)))


@dataclass(frozen=True, slots=True)
class Batch:
    """What a table and its template ask for.

    Attributes:
        rows: The rows that are sound jobs, in the table's order.
        failures: Why the other rows are not, and what is wrong with the template.
    """

    rows: tuple[BatchRow, ...]
    failures: tuple[RowFailure, ...]


def read_batch(table: Path, *, template: Path, settings: Settings) -> Batch:
    """Return the jobs that a table's rows make of a template.

    Args:
        table: CSV whose header names keys of the job; see `read_table`.
        template: A job file. Relative paths, those in cells too, start where the template's own do.
        settings: Their roots say where films may go.

    Raises:
        InvalidJobError: A file cannot be read, or the header is wrong; with one line for each mistake.
    """
    raw_job = gather_machines(read_raw_job(template))  # so that cells go before it in either spelling
    read = read_table(table)
    model = job_model(raw_job)
    columns = read_header(read.header, table=table, model=model)
    reader = _RowReader(template, raw_job, model, columns, read.has_decimal_comma, settings)
    rows: list[BatchRow] = []
    failures: dict[str, RowFailure] = {}  # by message: the template's mistakes are found again in every row
    owners: dict[str, int] = {}
    for number, record in read.rows:
        row, wrong = reader.read(number, record)
        if row and (first := owners.setdefault(one_spelling(row.output), number)) != number:
            text = f"row {number}, column output: {printable(row.output)} is the film of row {first} too"
            wrong.append(RowFailure(number, InvalidJobError(text)))
        failures |= {str(failure): failure for failure in wrong}
        rows += [row] if row and not wrong else []
    return Batch(tuple(rows), tuple(failures.values()))


@dataclass(frozen=True, slots=True)
class _RowReader:
    """Makes jobs of rows: the template's raw job with the cells of the row."""

    template: Path
    raw_job: Mapping[str, Any]
    model: type[FilmJob]
    columns: Sequence[Column | None]
    has_decimal_comma: bool
    settings: Settings

    def read(self, number: int, record: Sequence[str]) -> tuple[BatchRow | None, list[RowFailure]]:
        """Return the row's job, or None if there is no sound one; and all that is wrong with the row."""
        cells = {column: cell.strip() for column, cell in zip(self.columns, record, strict=False) if cell.strip()}
        failures = [RowFailure(number, InvalidJobError(line)) for line in self._misplaced(number, record, cells)]
        names = tuple(column.name for column in cells if column)
        try:
            job = self.model.model_validate(self._with_cells(cells))
            return BatchRow(number, job, output_location(job, settings=self.settings), names), failures
        except ValidationError as error:
            details = zip(error.errors(include_url=False), explain_mistakes(error, self.model), strict=True)
            wrong = [(place_of(detail), InvalidJobError(line)) for detail, line in details]
        except FanreelError as error:
            wrong = [(("output",), error)]
        return None, failures + [self._failure(number, location, error, cells) for location, error in wrong]

    def _misplaced(self, number: int, record: Sequence[str], cells: Mapping[Column | None, str]) -> Iterator[str]:
        if None in cells:
            yield f"row {number}: {cells[None]!r} stands in a column that has no name in the header"
        if any(cell.strip() for cell in record[len(self.columns) :]):
            yield f"row {number}: {len(record)} cells, and {len(self.columns)} columns in the header"

    def _with_cells(self, cells: Mapping[Column | None, str]) -> dict[str, Any]:
        raw_job = deepcopy(dict(self.raw_job))
        for column, cell in cells.items():
            if column:
                column.put(cell, raw_job, has_decimal_comma=self.has_decimal_comma)
        raw_job["base"] = str(base_folder(self.template, raw_job))
        return raw_job

    def _failure(
        self, number: int, location: tuple[int | str, ...], error: FanreelError, cells: Mapping[Column | None, str]
    ) -> RowFailure:
        """Return what is wrong with a job as a failure of the cell, the row or the template that says so."""
        keys = tuple(map(str, location))
        if column := next((column for column in cells if column and keys[: len(column.path)] == column.path), None):
            line = str(error).removeprefix(".".join(column.path))
            return RowFailure(number, type(error)(f"row {number}, column {column.name}{line}"))
        if keys[0] in self.raw_job:
            return RowFailure(0, type(error)(f"{self.template}: {error}"))
        return RowFailure(number, type(error)(f"row {number}: {error}"))
