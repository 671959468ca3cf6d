"""Batches: a table whose every row is a film, and the job file that they have in common."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from fanreel.errors import FanreelError, InvalidJobError
from fanreel.intake.job_file import base_folder, read_words
from fanreel.intake.sources import output_place
from fanreel.job.mistakes import explain_mistakes
from fanreel.job.slideshow import SlideshowJob
from fanreel.settings import Settings

__all__ = ["Batch", "BatchRow", "Mistake", "read_batch"]

LIST_SEPARATORS = re.compile(r"[|\r\n]+")
"""What parts the entries of a list in a cell; no file name of any system has a line break, and none on Windows a |."""

DELIMITERS = ",;\t"

LARGEST_CELL = 1 << 20


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A row of the table that is a sound job.

    Attributes:
        number: As a spreadsheet counts, the header being the first.
        job: What it asks for.
        output: Where its film goes.
        cells: The columns in which it says something.
    """

    number: int
    job: SlideshowJob
    output: str
    cells: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong with a table, or with the template.

    Attributes:
        row: Number of the row, as a spreadsheet counts; 0 if it is in none.
        text: Where it is and what, for people.
    """

    row: int
    text: str

    def __str__(self) -> str:
        """Return the line that people see."""
        return self.text


@dataclass(frozen=True, slots=True)
class Batch:
    """What was read.

    Attributes:
        rows: Sound jobs in the table's order.
        mistakes: All that is wrong elsewhere.
    """

    rows: tuple[BatchRow, ...]
    mistakes: tuple[Mistake, ...]


@dataclass(frozen=True, slots=True)
class _Column:
    """A key of the job, as the header names it."""

    name: str
    path: tuple[str, ...]
    is_list: bool
    is_number: bool


def read_batch(table: Path, *, template: Path, settings: Settings) -> Batch:
    """Return the jobs that the rows of a table make of a template.

    Args:
        table: CSV in UTF-8, its columns parted by commas, semicolons or tabs; the header names keys of the job.
        template: A job file. Relative paths, of cells too, start where its own do.
        settings: Say where films may go.

    Raises:
        InvalidJobError: A file cannot be read, or the header is wrong; with a line for each mistake.
    """
    words = read_words(template)
    words["base"] = str(base_folder(template, words))
    header, records, decimal_comma = _read_table(table)
    columns = _columns(header, table)
    rows: list[BatchRow] = []
    mistakes: dict[Mistake, None] = {}  # in order, each once
    owners: dict[str, int] = {}
    for number, record in records:
        cells = {column: cell.strip() for column, cell in zip(columns, record, strict=False) if cell.strip()}
        found = _make_row(number, cells, words, template=template, settings=settings, decimal_comma=decimal_comma)
        found += _surplus(number, record, columns)
        wrong = [item for item in found if isinstance(item, Mistake)]
        row = next((item for item in found if isinstance(item, BatchRow)), None)
        if row and (first := owners.setdefault(row.output, number)) != number:
            wrong.append(Mistake(number, f"row {number}, column output: {row.output} is the film of row {first} too"))
        mistakes |= dict.fromkeys(wrong)
        rows += [row] if row and not wrong else []
    return Batch(tuple(rows), tuple(mistakes))


def _read_table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]], bool]:
    """Return the header, the rows that hold anything with their numbers, and whether a comma stands in numbers."""
    text = _read_text(path)
    delimiter = _delimiter(text)
    if text[:4].lower() == "sep=":  # Excel's own word, which it does not count as a row
        text = text.partition("\n")[2]
    csv.field_size_limit(LARGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        records = [(number, row) for number, row in enumerate(reader, start=1) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise InvalidJobError(f"{path}: line {reader.line_num}: not CSV: {error}") from None
    if not records:
        raise InvalidJobError(f"{path}: empty; the first row names keys of the job, such as photos and output")
    if len(records) == 1:
        raise InvalidJobError(f"{path}: no row below the header; each is a film")
    return records[0][1], records[1:], delimiter == ";"


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidJobError(f"{path}: {error.strerror or error}") from None
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # Excel's "Unicode text"
    try:
        text = content.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidJobError(f"{path}: line {line}: not UTF-8; save it as CSV UTF-8") from None
    if "\0" in text:
        raise InvalidJobError(f"{path}: not a text; save the table as CSV UTF-8")
    return text


def _delimiter(text: str) -> str:
    """Return what parts the columns: what stands most often in the header, outside of quotes."""
    head = text.lstrip("\r\n").partition("\n")[0]
    if head[:4].lower() == "sep=" and head[4:5] in DELIMITERS:
        return head[4]
    counted = Counter(re.sub(r'"[^"]*"', "", head))
    return max(DELIMITERS, key=lambda delimiter: counted[delimiter])


def _columns(header: list[str], path: Path) -> list[_Column | None]:
    columns = [_column(name.strip()) for name in header]
    wrong = [column for column in columns if isinstance(column, str)]
    names = Counter(name.strip() for name in header if name.strip())
    wrong += [f"{name}: twice in the header" for name, count in names.items() if count > 1]
    if wrong:
        raise InvalidJobError("\n".join(f"{path}: row 1, column {line}" for line in wrong))
    return [column for column in columns if not isinstance(column, str)]


def _column(name: str) -> _Column | str | None:
    """Return the key that a column is of; as text, why there is none; None for a column without a name."""
    if not name:
        return None
    *above, last = name.split(".")
    model: type[BaseModel] = SlideshowJob
    for key in above:
        field = model.model_fields.get(key)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return f"{name}: no such key; keys within others are {', '.join(_nested_keys())}"
        model = field.annotation
    field = model.model_fields.get(last)
    if field is None:
        known = _unknown(model, last)
        return f"{name}: {known}"
    annotation = field.annotation
    inner = get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"{name}: holds several keys; name one, such as {next(iter(annotation.model_fields))}"
    if get_origin(annotation) is list and inner and isinstance(inner[0], type) and issubclass(inner[0], BaseModel):
        return f"{name}: does not fit into a cell; give photos, or write {name} into the template"
    return _Column(
        name,
        (*above, last),
        is_list=get_origin(annotation) is list,
        is_number=annotation in (int, float) or last == "fps",
    )


def _nested_keys() -> list[str]:
    return [
        f"{name}.{key}"
        for name, field in SlideshowJob.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        for key in field.annotation.model_fields
    ]


def _unknown(model: type[BaseModel], key: str) -> str:
    """Return what the model itself says of a key that it does not know."""
    try:
        model.model_validate({key: None})
    except ValidationError as error:
        lines = explain_mistakes(error, model)
        return next((line for line in lines if "unknown key" in line), lines[0]).partition(": ")[2]
    raise AssertionError(key)


def _make_row(
    number: int,
    cells: Mapping[_Column | None, str],
    template_words: Mapping[str, Any],
    *,
    template: Path,
    settings: Settings,
    decimal_comma: bool,
) -> list[BatchRow | Mistake]:
    """Return the row's job, or all that is wrong with it."""
    if None in cells:
        return [Mistake(number, f"row {number}: {cells[None]!r} stands in a column that has no name in the header")]
    columns = {column.name: column for column in cells if column is not None}
    values: dict[str, Any] = deepcopy(dict(template_words))
    for column, cell in cells.items():
        if column is not None and not _put(values, column, _value(column, cell, decimal_comma=decimal_comma)):
            return [Mistake(0, f"{template}: {column.path[0]}: a mapping is needed for the column {column.name}")]
    if "base" in columns:
        values["base"] = str(base_folder(template, values))
    try:
        job = SlideshowJob.model_validate(values)
    except ValidationError as error:
        details = zip(error.errors(include_url=False), explain_mistakes(error, SlideshowJob), strict=True)
        return [_mistake(number, detail["loc"], line, columns, template_words, template) for detail, line in details]
    try:
        return [BatchRow(number, job, output_place(job, settings=settings), tuple(columns))]
    except FanreelError as error:
        return [_mistake(number, ("output",), str(error), columns, template_words, template)]


def _value(column: _Column, cell: str, *, decimal_comma: bool) -> str | list[str]:
    if column.is_list:
        return [entry.strip() for entry in LIST_SEPARATORS.split(cell) if entry.strip()]
    # Where semicolons part the columns, it is because commas stand in numbers.
    if column.is_number and decimal_comma and re.fullmatch(r"\d+,\d+", cell):
        return cell.replace(",", ".")
    return cell


def _put(values: dict[str, Any], column: _Column, value: str | list[str]) -> bool:
    for key in column.path[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            return False
    values[column.path[-1]] = value
    return True


def _mistake(
    number: int,
    location: tuple[int | str, ...],
    line: str,
    columns: Mapping[str, _Column],
    template_words: Mapping[str, Any],
    template: Path,
) -> Mistake:
    """Return a mistake of a job as one of the cell, the row or the template that it is in."""
    keys = [str(part) for part in location]
    cell = next((name for name, column in columns.items() if tuple(keys[: len(column.path)]) == column.path), None)
    if cell is not None:
        return Mistake(number, f"row {number}, column {line}")
    if keys[0] in template_words:
        return Mistake(0, f"{template}: {line}")
    return Mistake(number, f"row {number}: {line}")


def _surplus(number: int, record: list[str], columns: list[_Column | None]) -> Iterator[Mistake]:
    if any(cell.strip() for cell in record[len(columns) :]):
        yield Mistake(number, f"row {number}: {len(record)} cells, and {len(columns)} columns in the header")
