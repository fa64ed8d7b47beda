"""This module finds out how a CSV file is written: its encoding, delimiter, decimal sign and column names."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.tables.formats import arff_header
from fedlp_edge.learning.data.tables.formats.csv_header import (
    column_names,
    column_numbers,
    count_lines_of_units,
    is_header,
    without_comments,
)
from fedlp_edge.learning.data.tables.formats.csv_signs import (
    MAX_FIELD,
    SAMPLE_ROWS,
    decimal_sign,
    find_delimiter,
    find_line_end,
    row_reader,
)
from fedlp_edge.learning.data.tables.formats.text_file import WIDE, text_at_beginning

_ANNOUNCED_DELIMITER = re.compile(r'\s*"?sep=(.)"?\r?\n')  # as Excel reads it


@dataclass(frozen=True, slots=True)
class CsvFormat:
    """Describes how a CSV file is written.

    Attributes:
        encoding: Encoding of the text.
        delimiter: Character between two fields.
        decimal: Decimal sign, a point or a comma.
        columns: Names of the columns; an empty name is a column that only a delimiter at the end of the lines makes.
        header_lines: Number of lines before the first row.
        rows: First rows, as text.
        units: Whether lines of units stand between the names and the first row.
        named: Whether the file names its columns; otherwise they are called by their numbers, from 1.
        quote: Sign around fields that hold a delimiter.
        line_end: Sign that ends each line and is no delimiter, such as a semicolon behind commas; empty for none.
    """

    encoding: str
    delimiter: str
    decimal: str
    columns: tuple[str, ...]
    header_lines: int
    rows: tuple[tuple[str, ...], ...]
    units: bool = False
    named: bool = True
    quote: str = '"'
    line_end: str = ""


def find_format(path: Path, encoding: str = "", *, named: bool = True) -> CsvFormat:
    """Finds out how a CSV file is written.

    Args:
        path: The file.
        encoding: Encoding of the text, where it is known.
        named: Whether the first line names the columns.

    Raises:
        DataError: The file cannot be read, is empty or no text, or its first line does not name the columns.
    """
    text, encoding = text_at_beginning(path, encoding)
    if (arff := arff_header.arff_header(text, path)) is not None:
        rows, _ = _first_rows(arff.below, ",", arff_header.QUOTE, arff.lines, path)
        decimal = decimal_sign(rows, ",")
        return CsvFormat(encoding, ",", decimal, arff.columns, arff.lines, rows, quote=arff_header.QUOTE)
    announced = _ANNOUNCED_DELIMITER.match(text)
    comments, text = without_comments(text[announced.end() :] if announced else text, named=named)
    above = comments + bool(announced)
    delimiter = announced[1] if announced else find_delimiter(text)
    line_end = "" if encoding.startswith(WIDE) else find_line_end(text, delimiter)
    if line_end:
        text = re.sub(rf"{line_end}[ \t]*(?=[\r\n]|\Z)", "", text)
    rows, ends = _first_rows(text, delimiter, '"', above, path)
    if not rows:
        raise DataError(f"{path} is empty")
    if not named:
        numbers, decimal = column_numbers(rows), decimal_sign(rows, delimiter)
        return CsvFormat(encoding, delimiter, decimal, numbers, above, rows, named=False, line_end=line_end)
    columns = column_names(rows, path, ends[0])
    units = count_lines_of_units(rows)
    own = tuple(row for row in rows[1 + units :] if not is_header(row, columns))
    decimal = decimal_sign(own, delimiter)
    return CsvFormat(encoding, delimiter, decimal, columns, ends[units], own, units > 0, line_end=line_end)


def _first_rows(
    text: str, delimiter: str, quote: str, above: int, path: Path
) -> tuple[tuple[tuple[str, ...], ...], list[int]]:
    """Returns the first rows of a text that are not blank, and the number of the line on which each ends."""
    csv.field_size_limit(MAX_FIELD)
    reader = row_reader(io.StringIO(text, newline=""), delimiter, quote)
    rows: list[tuple[str, ...]] = []
    ends: list[int] = []
    try:
        for row in reader:
            if row and any(field.strip() for field in row):
                rows.append(tuple(field.strip() for field in row))
                ends.append(above + reader.line_num)
            if len(rows) > SAMPLE_ROWS:
                break
    except csv.Error as error:
        raise DataError(f"{path}:{above + reader.line_num}: {error}") from None
    return tuple(rows), ends
