"""This module finds out how a CSV file is written: its encoding, delimiter, decimal sign and column names."""

from __future__ import annotations

import codecs
import csv
import itertools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fedlp_edge.errors import DataError

_SAMPLE_BYTES = 1 << 18
_SAMPLE_ROWS = 50
_DELIMITERS = (";", "\t", ",", "|")
_MAX_FIELD = 1 << 20
_COMMA_NUMBER = re.compile(r"[-+]?\d+,\d+([eE][-+]?\d+)?")
_GROUPED_NUMBER = re.compile(r"[-+]?\d{1,3}(\.\d{3})+(,\d+)?")
_POINT_NUMBER = re.compile(r"[-+]?\d*\.\d+([eE][-+]?\d+)?")
_NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?")


@dataclass(frozen=True, slots=True)
class CsvFormat:
    """Describes how a CSV file is written.

    Attributes:
        encoding: Encoding of the text.
        delimiter: Character between two fields.
        decimal: Decimal sign, a point or a comma.
        thousands: Sign between groups of three digits; empty for none.
        columns: Names of the columns; an empty name is a column that only a delimiter at the end of the lines makes.
        header_lines: Number of lines before the first row.
        rows: First rows, as text.
    """

    encoding: str
    delimiter: str
    decimal: str
    thousands: str
    columns: tuple[str, ...]
    header_lines: int
    rows: tuple[tuple[str, ...], ...]


def find_format(path: Path) -> CsvFormat:
    """Finds out how a CSV file is written.

    Raises:
        DataError: The file cannot be read, is empty or no text, or its first line does not name the columns.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_SAMPLE_BYTES)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    if not head.strip():
        raise DataError(f"{path} is empty")
    encoding = _encoding(head)
    text = _decoded(head, encoding, path)
    if len(head) == _SAMPLE_BYTES and "\n" in text:
        text = text[: text.rindex("\n") + 1]
    announced = re.match(r"\s*sep=(.)\r?\n", text)
    before = 1 if announced else 0
    text = text[announced.end() :] if announced else text
    delimiter = announced[1] if announced else _delimiter(text)
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, skipinitialspace=True)
    rows, header_lines = [], 0
    for row in reader:
        if row and any(field.strip() for field in row):
            rows.append(tuple(field.strip() for field in row))
            header_lines = header_lines or before + reader.line_num
        if len(rows) > _SAMPLE_ROWS:
            break
    columns = _names(rows[0], path, header_lines)
    decimal, thousands = _signs(rows[1:], delimiter)
    return CsvFormat(encoding, delimiter, decimal, thousands, columns, header_lines, tuple(rows[1:]))


def line_of(path: Path, form: CsvFormat, row: int) -> int:
    """Returns the number of the line, from 1, on which a row of a CSV file ends; blank lines are no rows."""
    for number, (line, _) in enumerate(rows_of(path, form)):
        if number == row:
            return line
    return 0


def rows_of(path: Path, form: CsvFormat) -> Iterator[tuple[int, list[str]]]:
    """Yields the rows of a CSV file as text, each with the number of its line."""
    csv.field_size_limit(_MAX_FIELD)
    with path.open(encoding=form.encoding, errors="replace", newline="") as file:
        for _ in itertools.islice(file, form.header_lines):
            pass
        reader = csv.reader(file, delimiter=form.delimiter, skipinitialspace=True)
        try:
            for row in reader:
                if row:
                    yield form.header_lines + reader.line_num, row
        except csv.Error as error:
            raise DataError(f"{path}:{form.header_lines + reader.line_num}: {error}") from None


def is_number(text: str) -> bool:
    """Tells whether a field is a number or a truth value, with either decimal sign."""
    return _NUMBER.fullmatch(text) is not None or text.lower() in ("true", "false", "nan", "inf", "-inf")


def _encoding(head: bytes) -> str:
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "cp1252"  # what Excel writes in western Europe
    return "utf-8"


def _decoded(head: bytes, encoding: str, path: Path) -> str:
    if encoding in ("utf-8", "cp1252") and b"\0" in head:
        raise DataError(f"{path} is no text: save the table as CSV (for Parquet write parquet:FILE)")
    text = codecs.getincrementaldecoder(encoding)("replace").decode(head)
    return text.removeprefix("\ufeff")


def _delimiter(text: str) -> str:
    """Returns the delimiter that cuts most rows into as many fields as the header has, and into most fields."""
    lines = list(itertools.islice((line for line in text.splitlines(keepends=True) if line.strip()), _SAMPLE_ROWS))
    best, best_score = ",", (0.0, 0)
    for delimiter in _DELIMITERS:
        rows = [row for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True) if row]
        width = len(rows[0]) if rows else 0
        if width < 2:
            continue
        alike = sum(len(row) == width for row in rows) / len(rows)
        if (score := (round(alike, 1), width)) > best_score:
            best, best_score = delimiter, score
    return best


def _names(fields: tuple[str, ...], path: Path, line: int) -> tuple[str, ...]:
    fields = tuple(unicodedata.normalize("NFC", field) for field in fields)  # sites compare names
    if all(is_number(field) for field in fields if field):
        raise DataError(
            f"{path}:{line}: the first line holds numbers, not the names of the columns: add a line of names"
        )
    for number, name in enumerate(fields):
        if name and (first := fields.index(name)) < number:
            raise DataError(f"{path}:{line}: columns {first + 1} and {number + 1} are both called {name!r}: rename one")
    return fields


def _signs(rows: list[tuple[str, ...]], delimiter: str) -> tuple[str, str]:
    fields = [field for row in rows for field in row]
    if delimiter == "," or any(
        _POINT_NUMBER.fullmatch(field) and not _GROUPED_NUMBER.fullmatch(field) for field in fields
    ):
        return ".", ""
    if any(_GROUPED_NUMBER.fullmatch(field) and "," in field for field in fields):
        return ",", "."
    if any(_COMMA_NUMBER.fullmatch(field) for field in fields):
        return ",", ""
    return ".", ""
