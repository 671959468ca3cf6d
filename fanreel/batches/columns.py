"""The columns of a batch's table: keys of the job, as the header names them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard, get_args, get_origin

from pydantic import BaseModel, ValidationError

from fanreel.errors import InvalidJobError
from fanreel.job.machines import MACHINE_KEYS
from fanreel.job.mistakes import explain_mistakes
from fanreel.printable import printable

__all__ = ["Column", "read_header"]

LIST_SEPARATORS = re.compile(r"[|\r\n]+")
"""What separates the entries of a list in a cell: file names have no line breaks, and on Windows no |."""


@dataclass(frozen=True, slots=True)
class Column:
    """A key of the job that cells can hold.

    Attributes:
        name: The key as the header names it, such as ``encoding.quality``.
        path: The same as a path into the raw job.
        is_list: A cell holds several entries.
        is_number: A cell holds a number.
    """

    name: str
    path: tuple[str, ...]
    is_list: bool
    is_number: bool

    def put(self, cell: str, raw_job: dict[str, Any], *, has_decimal_comma: bool) -> None:
        """Set the key in `raw_job` to what a cell says; what is no mapping there is left for the job's model to refuse.

        Args:
            cell: Text without blanks at its ends, not empty.
            raw_job: Changed in place.
            has_decimal_comma: The table writes numbers with a comma.
        """
        *above, last = self.path
        for key in above:
            raw_job = raw_job.setdefault(key, {})
            if not isinstance(raw_job, dict):
                return
        if self.is_list:
            raw_job[last] = [entry.strip() for entry in LIST_SEPARATORS.split(cell) if entry.strip()]
        elif self.is_number and has_decimal_comma and re.fullmatch(r"\d+,\d+", cell):
            raw_job[last] = cell.replace(",", ".")
        else:
            raw_job[last] = cell


def read_header(header: Sequence[str], *, table: Path, model: type[BaseModel]) -> list[Column | None]:
    """Return the column of each cell of a table's header; None where the cell is empty.

    Args:
        header: The table's first row.
        table: Where it is, for the message.
        model: The model of the batch's jobs.

    Raises:
        InvalidJobError: With one line for each name that is not a key, has no place in a cell, or comes twice.
    """
    columns: list[Column | None] = []
    wrong: list[str] = []
    for name in map(str.strip, header):
        try:
            columns.append(_column(name, model) if name else None)
        except InvalidJobError as error:
            wrong.append(str(error))
    paths = Counter(column.path for column in columns if column)
    wrong += [f"{'.'.join(path)}: twice in the header" for path, count in paths.items() if count > 1]
    if wrong:
        raise InvalidJobError("\n".join(f"{printable(table)}: row 1, column {line}" for line in wrong))
    return columns


def _column(name: str, job: type[BaseModel]) -> Column:
    *above, last = name.split(".")
    if not above and last in MACHINE_KEYS:
        above = ["machines"]
    model = job
    for key in above:
        field = model.model_fields.get(key)
        if field is None or not _is_model(field.annotation):
            raise InvalidJobError(f"{name}: no such key; keys within others are {', '.join(_nested_keys(job))}")
        model = field.annotation
    field = model.model_fields.get(last)
    if field is None:
        raise InvalidJobError(".".join([*above, _unknown(model, last)]))
    kind = field.annotation
    if _is_model(kind):
        raise InvalidJobError(f"{name}: holds several keys; name one, such as {next(iter(kind.model_fields))}")
    is_list = get_origin(kind) is list
    if is_list and any(map(_is_model, get_args(kind))):
        raise InvalidJobError(f"{name}: does not fit into a cell; give photos, or write {name} into the template")
    return Column(name, (*above, last), is_list=is_list, is_number=kind in (int, float) or last == "fps")


def _is_model(kind: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _nested_keys(job: type[BaseModel]) -> list[str]:
    return [
        f"{name}.{key}"
        for name, field in job.model_fields.items()
        if _is_model(field.annotation)
        for key in field.annotation.model_fields
    ]


def _unknown(model: type[BaseModel], key: str) -> str:
    """Return the line that the model itself has for a key that it does not know."""
    try:
        model.model_validate({key: None})
    except ValidationError as error:
        return next(line for line in explain_mistakes(error, model) if ": unknown key; " in line)
    raise AssertionError(key)
