"""This module finds out by which signs the text of a CSV file is divided: delimiter, decimal sign, ends of lines."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from fedlp_edge.learning.data.tables.field_values import (
    COMMA_NUMBER,
    GROUPED_NUMBER,
    POINT_NUMBER,
    is_number,
)

if TYPE_CHECKING:
    from _csv import Reader as CsvReader

BLANKS = " "
"""Delimiter that stands for any number of blanks and tabs, as scientific programs write tables."""

SAMPLE_ROWS = 1000
"""Rows by which the signs of a file are found out."""

MAX_FIELD = 1 << 20
"""Characters that a field may have; with more, a quote was never closed."""

_DELIMITERS = (";", "\t", ",", "|")
_MIN_ALIKE = 0.9  # share of the rows with as many fields as the first, where blanks may separate them


def row_reader(lines: Iterable[str], delimiter: str, quote: str = '"') -> CsvReader:
    """Returns a reader of rows from ``csv``, for which any number of blanks becomes one."""
    if delimiter == BLANKS:
        lines = (" ".join(line.split()) for line in lines)
    return csv.reader(lines, delimiter=delimiter, quotechar=quote, skipinitialspace=True)


def find_delimiter(text: str) -> str:
    """Returns the delimiter that cuts most rows into as many fields as the header has, and into most fields."""
    lines = list(itertools.islice((line for line in io.StringIO(text, newline="") if line.strip()), SAMPLE_ROWS))
    best, best_score = ",", (0.0, 0)
    for delimiter in _DELIMITERS:
        rows = [row for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True) if row]
        width = len(rows[0]) if rows else 0
        if width < 2:
            continue
        alike = sum(len(row) == width for row in rows) / len(rows)
        if (score := (round(alike, 1), width)) > best_score:
            best, best_score = delimiter, score
    if best_score[1] and not _leaves_blanks_between_numbers(lines, best):
        return best
    return BLANKS if _are_separated_by_blanks(lines) else best


def find_line_end(text: str, delimiter: str) -> str:
    """Returns a semicolon if most rows end with one and another sign separates their fields; empty otherwise."""
    lines = [line.rstrip() for line in itertools.islice(io.StringIO(text), SAMPLE_ROWS) if line.strip()]
    rows = lines[1:] or lines  # names may stand without one
    return ";" if delimiter != ";" and sum(row.endswith(";") for row in rows) >= _MIN_ALIKE * len(rows) > 0 else ""


def decimal_sign(rows: Sequence[tuple[str, ...]], delimiter: str) -> str:
    """Returns the decimal sign: what stands before other than three digits, or after groups of three, decides."""
    commas = False
    for field in itertools.chain.from_iterable(rows):
        grouped = GROUPED_NUMBER.fullmatch(field)
        if grouped is not None and grouped[4]:
            if grouped[4] == ".":
                return "."
            commas = True
        elif grouped is None and POINT_NUMBER.fullmatch(field):
            return "."
        elif COMMA_NUMBER.fullmatch(field) and (grouped is None or delimiter != ","):
            commas = True
    return "," if commas else "."


def _leaves_blanks_between_numbers(lines: Sequence[str], delimiter: str) -> bool:
    """Tells whether a delimiter leaves several numbers in one field of most lines, as a decimal comma or a tab does."""

    def holds_numbers(field: str) -> bool:
        parts = field.split()
        return len(parts) > 1 and all(map(is_number, parts)) and not GROUPED_NUMBER.fullmatch(field.strip())

    rows = list(csv.reader(lines, delimiter=delimiter))
    return sum(any(map(holds_numbers, row)) for row in rows) >= _MIN_ALIKE * len(rows) > 0


def _are_separated_by_blanks(lines: Sequence[str]) -> bool:
    """Tells whether blanks cut lines into equally many fields, of which some are numbers, and no words of a text."""
    rows = list(row_reader(lines, BLANKS))
    width = len(rows[0]) if rows else 0
    alike = sum(len(row) == width for row in rows)
    numeric = sum(any(map(is_number, row)) for row in rows[1:])
    return width > 1 and alike >= _MIN_ALIKE * len(rows) and numeric >= _MIN_ALIKE * (len(rows) - 1)
