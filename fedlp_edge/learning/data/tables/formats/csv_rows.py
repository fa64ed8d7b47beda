"""This module reads the rows of a CSV file whose form is known."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator
from pathlib import Path

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.tables.formats.csv_format import CsvFormat
from fedlp_edge.learning.data.tables.formats.csv_header import is_header
from fedlp_edge.learning.data.tables.formats.csv_signs import BLANKS, MAX_FIELD, row_reader
from fedlp_edge.learning.data.tables.formats.mended_lines import MendedLines
from fedlp_edge.learning.data.tables.formats.text_file import UNREADABLE, WIDE, is_compressed, open_text, unreadable

_BUFFER_BYTES = 1 << 16


class CsvRows(io.TextIOWrapper):
    """The text of a CSV file, compressed by gzip or not, after its header; a line with zero bytes is one of gaps.

    Args:
        path: Path of the file.
        form: How it is written.

    Raises:
        OSError: The file cannot be opened.
    """

    def __init__(self, path: Path, form: CsvFormat) -> None:
        opened = open_text(path)
        self._mended: MendedLines | None = None
        if not form.encoding.startswith(WIDE):
            gap = "NaN" if form.delimiter == BLANKS else ""
            gaps = form.delimiter.join([gap] * len(form.columns))
            self._mended = MendedLines(opened, gaps.encode(), form.line_end.encode())
            opened = io.BufferedReader(self._mended, _BUFFER_BYTES)
        super().__init__(opened, encoding=form.encoding, errors="replace", newline="")
        for _ in itertools.islice(self, form.header_lines):
            pass

    @property
    def zeroed(self) -> int:
        """Number of lines with zero bytes, of those that were read so far."""
        return 0 if self._mended is None else self._mended.zeroed


def ends_within_a_line(path: Path, form: CsvFormat) -> bool:
    """Tells whether the last line of a CSV file has no end; False where it is compressed, or cannot be read.

    One whose end is zero bytes has lost that line.
    """
    if form.encoding.startswith(WIDE):
        return False
    try:
        if is_compressed(path):
            return False
        with path.open("rb") as file:
            file.seek(-1, io.SEEK_END)
            return file.read() not in (b"\n", b"\r", b"\0")
    except OSError:
        return False


def line_of(path: Path, form: CsvFormat, row: int) -> int:
    """Returns the number of the line, from 1, on which a row of a CSV file ends; blank lines are no rows."""
    for number, (line, _) in enumerate(rows_of(path, form)):
        if number == row:
            return line
    return 0


def rows_of(path: Path, form: CsvFormat) -> Iterator[tuple[int, list[str]]]:
    """Yields the rows of a CSV file as text, each with the number of its line.

    Raises:
        DataError: The file cannot be read, or a row is malformed.
    """
    csv.field_size_limit(MAX_FIELD)
    try:
        with CsvRows(path, form) as file:
            reader = row_reader(file, form.delimiter, form.quote)
            try:
                for row in reader:
                    if row and not (form.named and is_header(row, form.columns)):
                        yield form.header_lines + reader.line_num, row
            except csv.Error as error:
                raise DataError(f"{path}:{form.header_lines + reader.line_num}: {error}") from None
    except UNREADABLE as error:
        raise DataError(unreadable(path, error)) from None
