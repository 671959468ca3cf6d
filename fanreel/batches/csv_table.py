"""Tables in CSV, as people and spreadsheets write them."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from fanreel.errors import InvalidJobError
from fanreel.printable import printable

__all__ = ["Table", "read_table"]

DELIMITERS = ",;\t"

LARGEST_CELL = 1 << 20


@dataclass(frozen=True, slots=True)
class Table:
    """What a CSV file holds.

    Attributes:
        header: The cells of its first row.
        rows: The other rows that are not empty. Each has its number as a spreadsheet counts: the header is row 1.
        has_decimal_comma: Numbers may be written with a comma, because semicolons separate the columns.
    """

    header: list[str]
    rows: list[tuple[int, list[str]]]
    has_decimal_comma: bool


def read_table(path: Path) -> Table:
    """Return the table in a CSV file: in UTF-8, or Excel's UTF-16; separated by commas, semicolons or tabs.

    Raises:
        InvalidJobError: The file cannot be read, is not CSV, or has no row below its header.
    """
    text = _read_text(path)
    delimiter = _delimiter(text)
    if text[:4].lower() == "sep=":  # Excel's own line, which Excel does not count as a row
        text = text.partition("\n")[2]
    csv.field_size_limit(LARGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = [(number, row) for number, row in enumerate(reader, start=1) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise InvalidJobError(f"{printable(path)}: line {reader.line_num}: not CSV: {error}") from None
    if not rows:
        reason = "empty; the first row names keys of the job, such as photos and output"
        raise InvalidJobError(f"{printable(path)}: {reason}")
    if len(rows) == 1:
        raise InvalidJobError(f"{printable(path)}: no row below the header; each row is a film")
    return Table(rows[0][1], rows[1:], has_decimal_comma=delimiter == ";")


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidJobError(f"{printable(path)}: {error.strerror or error}") from None
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # Excel's "Unicode text"
    try:
        text = content.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidJobError(f"{printable(path)}: line {line}: not UTF-8; save it as CSV UTF-8") from None
    if "\0" in text:
        raise InvalidJobError(f"{printable(path)}: not a text; save the table as CSV UTF-8")
    return text


def _delimiter(text: str) -> str:
    """Return what separates the columns: the delimiter that is most frequent in the header, outside of quotes."""
    head = text.lstrip("\r\n").partition("\n")[0]
    if head[:4].lower() == "sep=" and head[4:5] in DELIMITERS:
        return head[4]
    counted = Counter(re.sub(r'"[^"]*"', "", head))
    return max(DELIMITERS, key=lambda delimiter: counted[delimiter])
