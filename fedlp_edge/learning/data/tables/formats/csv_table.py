"""This module reads the columns of a CSV or ARFF file, by way of pandas."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.tables.field_values import GAPS, NO_NUMBERS, is_number, number_with_unit
from fedlp_edge.learning.data.tables.formats.csv_format import find_format
from fedlp_edge.learning.data.tables.formats.csv_rows import CsvRows, ends_within_a_line, line_of, rows_of
from fedlp_edge.learning.data.tables.formats.csv_signs import BLANKS
from fedlp_edge.learning.data.tables.formats.table_reader import PART_ROWS, TableReader
from fedlp_edge.learning.data.tables.formats.text_file import UNREADABLE, unreadable
from fedlp_edge.learning.foreign_code import error_line

_AROUND_NAMES = " \t\ufeff"  # a byte order mark stands where files were joined
_BEYOND = "\0beyond"  # name of the column beyond those that the header names
_LISTS = 20  # rows by which a column of lists is told


class CsvTable(TableReader):
    """Reads a CSV file, compressed by gzip or not.

    Args:
        path: The file.
        encoding: Encoding of the text; empty if it is to be found out.
        gap_words: Words that stand for a gap besides the usual ones.
        named: Whether the first line names the columns.

    Raises:
        DataError: The file cannot be read, or is no table.
    """

    gaps = GAPS

    def __init__(self, path: Path, encoding: str = "", gap_words: Sequence[str] = (), *, named: bool = True) -> None:
        self.path = path
        self._form = form = find_format(path, encoding, named=named)
        self._no_numbers = frozenset((*GAPS, *NO_NUMBERS, *gap_words))
        self.columns = tuple(name for name in form.columns if name)
        self.numbers = {name for number, name in enumerate(form.columns) if self._are_numbers(number)}
        self.decimal = form.decimal
        self.guessed_encoding = form.encoding if form.encoding == "cp1252" and not encoding else ""
        self.has_rows = bool(form.rows)
        self.line_of_units = form.units
        self.ends_within_a_line = ends_within_a_line(path, form)

    @property
    def header_place(self) -> str:
        """The line with the names of the columns."""
        return ":1" if self._form.named else ""

    @property
    def unnamed(self) -> tuple[int, ...]:
        """Numbers, from 1, of the columns that hold values and have no name, but for the first, pandas' index."""
        return tuple(
            number + 1
            for number, name in enumerate(self._form.columns)
            if number and not name and any(self._fields(number))
        )

    def frames(self, wanted: Sequence[str], texts: Set[str], times: Set[str]) -> Iterator[Any]:
        """Yields some columns as data frames, without lines that name the columns once more.

        Raises:
            DataError: The file cannot be read, or has a row with more fields than there are columns.
        """
        import pandas  # noqa: PLC0415 - an extra

        form = self._form
        # A column more than the header names, since pandas drops what stands there without a word.
        names = [*(name or f"\0{number}" for number, name in enumerate(form.columns)), _BEYOND]
        # Gaps among classes are found afterwards: "None" and "NA" may be meant as classes, and are at least named.
        stripped = dict.fromkeys(texts - times, str.strip)
        gaps = list(self._no_numbers)
        headers = 0
        try:
            with (
                CsvRows(self.path, form) as rows,
                pandas.read_csv(
                    rows,
                    sep=r"\s+" if form.delimiter == BLANKS else form.delimiter,
                    quotechar=form.quote,
                    header=None,
                    names=names,
                    index_col=False,
                    decimal=form.decimal,
                    skipinitialspace=True,
                    na_values={name: gaps for name in names if name not in stripped},
                    keep_default_na=False,
                    dtype=dict.fromkeys(times, str),
                    converters=stripped,
                    chunksize=PART_ROWS,
                    low_memory=False,
                ) as reader,
            ):
                for frame in reader:
                    if frame[_BEYOND].notna().any():
                        raise DataError(self._too_many_fields())
                    own = self._without_headers(frame[list(wanted)])
                    headers += len(frame) - len(own)
                    yield own
                self.zeroed = rows.zeroed
        except DataError:
            raise
        except UNREADABLE as error:
            raise DataError(unreadable(self.path, error)) from None
        except MemoryError:
            raise DataError(f"cannot read {self.path}: it takes more memory than there is") from None
        except Exception as error:
            raise DataError(self._reason(error)) from None
        self.headers = headers

    def place(self, row: int) -> str:
        """Returns file and line of a row."""
        return f"{self.path}:{line_of(self.path, self._form, row)}"

    def hint(self, name: str) -> str:
        """Returns where the names of the columns may stand instead, or why there is only one."""
        form = self._form
        for row, fields in zip(rows_of(self.path, form), form.rows, strict=False):
            if name in fields:
                return f", but line {row[0]} names it: remove the lines above that"
        if len(form.columns) == 1 and name in form.columns[0].split():
            return ": fields are separated by a comma, semicolon, tab or |, by blanks only among numbers"
        if self.guessed_encoding:
            return " (it is no UTF-8 and was read as Windows-1252: name another with encoding=, such as shift_jis)"
        return ""

    def lists(self, columns: Sequence[str]) -> tuple[str, ...]:
        """Returns those of some columns whose first fields are lists of numbers, such as ``70 80 82`` or ``[1, 2]``."""
        found = []
        for name, first in self._first_fields(columns):
            fields = [field for field in first if field]
            lists = [re.split(r"[\s,;]+", field.strip("[]() ")) for field in fields[:_LISTS]]
            if lists and all(len(parts) > 1 and all(map(is_number, parts)) for parts in lists):
                found.append(name)
        return tuple(found)

    def units(self, columns: Sequence[str]) -> dict[str, str]:
        """Returns a field of each of some columns whose fields in the first rows are numbers with a unit."""
        found = {}
        for name, fields in self._first_fields(columns):
            if field := number_with_unit([text.strip() for text in fields if text not in self._no_numbers]):
                found[name] = field
        return found

    def _first_fields(self, columns: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
        """Yields columns and their first fields."""
        numbers = {name: number for number, name in enumerate(self._form.columns)}
        for name in columns:
            yield name, self._fields(numbers[name])

    def _fields(self, number: int) -> list[str]:
        """Returns the first fields of a column."""
        return [row[number] for row in self._form.rows if number < len(row)]

    def _are_numbers(self, number: int) -> bool:
        """Tells whether most fields of a column in the first rows, or all of none, are numbers."""
        fields = [field for field in self._fields(number) if field not in self._no_numbers]
        return 2 * sum(map(is_number, fields)) >= len(fields)

    def _without_headers(self, frame: Any) -> Any:
        """Returns rows without those that name the columns once more; such a row makes text of all columns."""
        if not self._form.named or any(frame[name].dtype.kind != "O" for name in frame.columns):
            return frame
        again = np.ones(len(frame), np.bool_)
        for name in frame.columns:
            if not again.any():
                return frame
            again &= np.asarray(frame[name].str.strip(_AROUND_NAMES) == name, np.bool_)
        return frame[~again].reset_index(drop=True) if again.any() else frame

    def _reason(self, error: Exception) -> str:
        if "EOF inside string" in str(error) and (row := re.search(r"at row (\d+)", str(error))):
            place = self._line_before(int(row[1]))
            return f"{self.path}:{place}: a quote is opened and never closed, here or above: close it, or remove it"
        too_many = "Expected" in str(error) and "fields in line" in str(error)
        return (self._too_many_fields() if too_many else "") or f"cannot read {self.path}: {error_line(error)}"

    def _line_before(self, row: int) -> int:
        """Returns the number of the line that follows ``row`` rows."""
        header = self._form.header_lines
        lines = (line for line, _ in rows_of(self.path, self._form))
        return next(itertools.islice(lines, row - 1, None), header) + 1 if row else header + 1

    def _too_many_fields(self) -> str:
        """Returns the message about the first line with more fields than there are columns; empty if none has."""
        width = len(self._form.columns)
        for line, row in rows_of(self.path, self._form):
            if len(row) > width and any(field.strip() for field in row[width:]):
                others = f"the header names {width} columns" if self._form.named else f"most rows have {width}"
                return f"{self.path}:{line}: {len(row)} fields, but {others}: mend the line"
        return ""
