"""This module reads the wanted columns of CSV and Parquet files, part by part."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlp_edge.core.targets import TargetKind
from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.spec import TableOptions
from fedlp_edge.learning.data.tables.column_names import column_hint
from fedlp_edge.learning.data.tables.csv_format import (
    BLANKS,
    UNREADABLE,
    CsvFormat,
    CsvRows,
    ends_within_a_line,
    find_format,
    line_of,
    rows_of,
    unreadable,
)
from fedlp_edge.learning.data.tables.doubtful_values import far_value, mark_of_gaps
from fedlp_edge.learning.data.tables.field_values import (
    GAPS,
    NO_NUMBERS,
    SWITCHES,
    is_number,
    number_with_unit,
    point_number,
)
from fedlp_edge.learning.data.tables.json_lines import JsonTable
from fedlp_edge.learning.data.tables.parquet_format import parquet_columns, parquet_frames
from fedlp_edge.learning.data.tables.table_folders import partition_of
from fedlp_edge.learning.data.tables.time_column import TimeColumn
from fedlp_edge.learning.foreign_code import error_line

PART_ROWS = 1 << 16
"""Rows that are read together."""

FILE = "file"
"""Name of a group or a class that is the name of the file, unless a column is called so."""

FOLDER = "folder"
"""Name of a group or a class that is the name of the folder below that of the table, unless a column is called so."""

_WORD = re.compile(r"[^\W\d_]{1,16}")
_AROUND_NAMES = " \t\ufeff"  # a byte order mark stands where files were joined
_BEYOND = "\0beyond"  # name of the column beyond those that the header names
_MAX_SHOWN = 8
_LISTS = 20  # rows by which a column of lists is told


@dataclass(frozen=True, slots=True)
class TablePart:
    """Holds successive rows of a file.

    Attributes:
        features: Values, float32 [n, F]; a gap is not finite.
        target: Values of the target columns, a list of arrays [n] of text or numbers.
        group: Name of the group of each row, text [n]; None without groups.
        time: Time of each row, float64 [n], NaN where it is missing; None if the order in the file counts.
    """

    features: npt.NDArray[np.float32]
    target: list[npt.NDArray[Any]]
    group: npt.NDArray[Any] | None
    time: npt.NDArray[np.float64] | None


class TableFile:
    """Reads one file, after its columns were found.

    Args:
        path: The file.
        source: ``csv``, ``json`` or ``parquet``.
        options: Roles of the columns.
        kind: Kind of the targets; None if it is not known yet.
        name: Name of the file as a group or class; without suffix that of the file if empty.
        folder: Name of its folder as a group or class; empty if it lies in none below that of the table.

    Attributes:
        columns: Names of all columns.
        numbers: Names of the columns of numbers that have no role, in the order of the file.
        text: Names of the columns of text that have no role.
        times: Names of the columns of a Parquet file that hold points in time or durations and have no role.
        nested: Names of the columns of lists or records that have no role.
        unnamed: Numbers, from 1, of the columns of a CSV file that hold values and have no name.
        lists: Names of those of them, or of the columns of a JSON file, whose fields hold several numbers each.
        units: A field of each column of text that holds numbers with a unit, by column.
        gap_words: Words that were taken for a missing class, so far.
        encoding: Encoding that was guessed, since the file is no UTF-8; empty if it is certain.
        marks: Numbers that look like marks of gaps, by the column that holds them, so far.
        far: Numbers that are far from all others of their column, by column, so far.
        headers: Number of lines that name the columns once more, so far.
        line_of_units: Whether a CSV file has lines of units below the names of its columns.
        zeroed: Number of lines of a CSV file with zero bytes, which count as rows of gaps, once it was read.
        has_rows: Whether a CSV file has rows below the names of its columns.
        ends_within_a_line: Whether the last line of a CSV file has no end.

    Raises:
        DataError: The file cannot be read, or lacks a column.
    """

    def __init__(
        self,
        path: Path,
        source: str,
        options: TableOptions,
        kind: TargetKind | None,
        name: str = "",
        folder: str = "",
    ) -> None:
        self.path = path
        self.gap_words: set[str] = set()
        self.marks: dict[str, float] = {}
        self.far: dict[str, float] = {}
        self.headers = self._headers_of_part = self.zeroed = 0
        self._options = options
        self._numeric_target = kind in ("values", "labels") or len(options.target) > 1
        self._form: CsvFormat | None = None
        self._json: JsonTable | None = None
        numeric: Set[str]
        nested, times = frozenset[str](), tuple[str, ...]()
        if source == "csv":
            self._form = find_format(path, options.encoding, named=options.header)
            self.columns = tuple(name for name in self._form.columns if name)
            numeric = _numeric_columns(self._form, options.missing_words)
        elif source == "json":
            self._json = JsonTable(path)
            self.columns, numeric, nested = self._json.columns, self._json.numbers, self._json.nested
        else:
            found = parquet_columns(path)
            self.columns, numeric, nested, times = found.names, found.numbers, found.nested, found.times
        self._known = frozenset(self.columns)
        guessed = self._form is not None and self._form.encoding == "cp1252" and not options.encoding
        self.encoding = "cp1252" if guessed else ""
        named = {FILE: name or path.stem, FOLDER: folder}
        self._named = {name: value for name, value in named.items() if name not in self._known}
        self._group = options.group if options.group in self._known else ""
        self._partition = partition_of(path, options.group) if options.group and not self._group else ""
        roles = {*options.target, self._group, *options.time}
        for column in (*options.target, *options.features, *options.time):
            if column not in options.target or column not in self._named:
                self._check_there(column)
        if options.group and not self._group and not self._partition and options.group not in self._named:
            self._check_there(options.group)
        for column in (*options.target, *options.features, self._group, *options.time):
            if column in nested:
                raise DataError(
                    f"{path}: column {column!r} holds lists or records: give each value a column of its own"
                )
        left = [column for column in self.columns if column not in roles]
        self.numbers = tuple(column for column in left if column in numeric)
        self.times = tuple(column for column in left if column in times)
        self.text = tuple(column for column in left if column not in {*numeric, *nested, *times})
        within = tuple(column for column in left if column in nested)
        self.nested: tuple[str, ...] = within if self._json is None else ()
        self.lists = within if self._json is not None else _columns_of_lists(self._form, self.text)
        self.unnamed = () if self._form is None else _unnamed_columns(self._form)
        self.units = {} if self._form is None else _units(self._form, self.text, options.missing_words)
        decimal = "." if self._form is None else self._form.decimal
        self._time = TimeColumn(options.time, decimal, self.place, lambda: self._frames([options.time[0]]))
        self.line_of_units = self._form is not None and self._form.units
        self.has_rows = bool(self._form.rows) if self._form is not None else self._json is None or bool(self.columns)
        self.ends_within_a_line = self._form is not None and ends_within_a_line(path, self._form)

    def parts(self, features: Sequence[str]) -> Iterator[TablePart]:
        """Yields the rows of the file, part by part.

        Args:
            features: Names of the columns that become features.

        Raises:
            DataError: A row has too many fields, or a field is no number; the message names file, line and column.
        """
        for name in features:
            self._check_there(name)
        targets = [name for name in self._options.target if name not in self._named]
        wanted = [*features, *targets, *filter(None, (self._group, *self._options.time))]
        first = 0
        for frame in self._frames(list(dict.fromkeys(wanted))):
            n = len(frame)
            made = np.empty((n, len(features)), np.float32)
            for number, name in enumerate(features):
                with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and left out as a gap is
                    made[:, number] = self._numbers(frame[name], name, first)
            yield TablePart(
                features=made,
                target=[self._target(self._column(frame, name), name, first) for name in self._options.target],
                group=self._groups(frame, n),
                time=self._time.read(frame, first) if self._options.time else None,
            )
            first += n
            self.headers += self._headers_of_part

    def place(self, row: int) -> str:
        """Returns where a row stands, for messages: file and line, or file and row."""
        if self._form is not None:
            return f"{self.path}:{line_of(self.path, self._form, row)}"
        line = 0 if self._json is None else self._json.line_of(row)
        return f"{self.path}:{line}" if line else f"{self.path}: row {row}"

    def _check_there(self, name: str) -> None:
        if name in self._known:
            return
        hint = column_hint(name, self.columns)
        more = ", ..." if len(self.columns) > _MAX_SHOWN else ""
        line = ":1" if self._form is not None and self._form.named else ""
        if self._form is not None and not hint:
            hint = _header_hint(self.path, self._form, name)
        if self.encoding and not hint:
            hint = " (it is no UTF-8 and was read as Windows-1252: name another with encoding=, such as shift_jis)"
        raise DataError(
            f"{self.path}{line}: there is no column {name!r}{hint}; "
            f"its columns are {', '.join(self.columns[:_MAX_SHOWN])}{more}"
        )

    def _frames(self, wanted: list[str]) -> Iterator[Any]:
        if self._json is not None:
            yield from self._json.frames(wanted, PART_ROWS)
            return
        if self._form is None:
            yield from parquet_frames(self.path, wanted, PART_ROWS)
            return
        import pandas  # noqa: PLC0415 - an extra

        form = self._form
        # A column more than the header names, since pandas drops what stands there without a word.
        names = [*(name or f"\0{number}" for number, name in enumerate(form.columns)), _BEYOND]
        time = self._options.time
        as_text = {name: str for name in wanted if name in time}
        # Gaps among classes are found afterwards: "None" and "NA" may be meant as classes, and are at least named.
        stripped = {name: str.strip for name in wanted if self._is_text(name) and name not in time}
        gaps = [*GAPS, *NO_NUMBERS, *self._options.missing_words]
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
                    dtype=as_text,
                    converters=stripped,
                    chunksize=PART_ROWS,
                    low_memory=False,
                ) as reader,
            ):
                for frame in reader:
                    if frame[_BEYOND].notna().any():
                        raise DataError(self._too_many_fields())
                    yield self._without_headers(frame[wanted])
                self.zeroed = rows.zeroed
        except DataError:
            raise
        except UNREADABLE as error:
            raise DataError(unreadable(self.path, error)) from None
        except MemoryError:
            raise DataError(f"cannot read {self.path}: it takes more memory than there is") from None
        except Exception as error:
            raise DataError(self._reason(error)) from None

    def _without_headers(self, frame: Any) -> Any:
        """Returns rows without those that name the columns once more; such a row makes text of all columns."""
        self._headers_of_part = 0
        if self._form is None or not self._form.named or any(frame[name].dtype.kind != "O" for name in frame.columns):
            return frame
        again = np.ones(len(frame), np.bool_)
        for name in frame.columns:
            if not again.any():
                break
            again &= np.asarray(frame[name].str.strip(_AROUND_NAMES) == name, np.bool_)
        self._headers_of_part = int(again.sum())
        return frame[~again].reset_index(drop=True) if again.any() else frame

    def _reason(self, error: Exception) -> str:
        if "EOF inside string" in str(error) and (row := re.search(r"at row (\d+)", str(error))):
            place = self._line_before(int(row[1]))
            return f"{self.path}:{place}: a quote is opened and never closed, here or above: close it, or remove it"
        too_many = "Expected" in str(error) and "fields in line" in str(error)
        return (self._too_many_fields() if too_many else "") or f"cannot read {self.path}: {error_line(error)}"

    def _line_before(self, row: int) -> int:
        """Returns the number of the line that follows ``row`` rows."""
        form = self._form
        lines = (line for line, _ in rows_of(self.path, form)) if form is not None else iter(())
        header = form.header_lines if form is not None else 0
        return next(itertools.islice(lines, row - 1, None), header) + 1 if row else header + 1

    def _too_many_fields(self) -> str:
        """Returns the message about the first line with more fields than the header names."""
        if self._form is None:
            return ""
        width = len(self._form.columns)
        for line, row in rows_of(self.path, self._form):
            if len(row) > width and any(field.strip() for field in row[width:]):
                others = f"the header names {width} columns" if self._form.named else f"most rows have {width}"
                return f"{self.path}:{line}: {len(row)} fields, but {others}: mend the line"
        return ""

    def _is_text(self, name: str) -> bool:
        options = self._options
        if name in options.features:
            return False
        return name in (self._group, *options.time) or (name in options.target and not self._numeric_target)

    def _numbers(self, column: Any, name: str, first: int) -> npt.NDArray[np.float64]:
        """Returns a column as numbers, with NaN for gaps."""
        return self._marked(self._as_numbers(column, name, first), name)

    def _marked(self, values: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
        """Returns numbers with NaN where they stand for a gap, and notes one that looks as if it did."""
        if self._options.missing and (gaps := np.isin(values, self._options.missing)).any():
            values = np.where(gaps, np.nan, values)
        if name not in self.marks and (mark := mark_of_gaps(values)) is not None:
            self.marks[name] = mark
        elif name not in self.marks and name not in self.far and (value := far_value(values)) is not None:
            self.far[name] = value
        return values

    def _as_numbers(self, column: Any, name: str, first: int) -> npt.NDArray[np.float64]:
        if column.dtype.kind in "buif":
            return np.asarray(column, np.float64)
        import pandas  # noqa: PLC0415 - an extra

        if pandas.api.types.is_timedelta64_dtype(column):  # seconds, whatever unit the file stores
            return np.asarray(column.dt.total_seconds(), np.float64)
        if pandas.api.types.is_datetime64_any_dtype(column):
            since = pandas.Timestamp(0, tz="UTC" if column.dt.tz is not None else None)
            return np.asarray((column - since).dt.total_seconds(), np.float64)
        if pandas.api.types.is_numeric_dtype(column) or pandas.api.types.is_bool_dtype(column):  # with missing values
            return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
        texts = column.astype("object").map(lambda value: value.strip() if isinstance(value, str) else value)
        words = {value.lower() for value in texts[column.notna()] if isinstance(value, str)}
        if words and words <= SWITCHES.keys():
            texts = texts.map(lambda value: SWITCHES[value.lower()] if isinstance(value, str) else value)
        texts = texts.replace({"True": 1, "False": 0, "true": 1, "false": 0, True: 1, False: 0})
        if self._form is not None:
            decimal = self._form.decimal
            texts = texts.map(lambda value: point_number(value, decimal) if isinstance(value, str) else value)
        made = pandas.to_numeric(texts, errors="coerce")
        bad = np.asarray(made.isna() & column.notna())
        if bad.any():
            row = int(np.argmax(bad))
            word = str(column.iloc[row]).strip()
            gap = f", add missing={word} if it stands for a gap" if _WORD.fullmatch(word) and self._form else ""
            raise DataError(
                f"{self.place(first + row)}: column {name!r} holds {str(column.iloc[row])[:40]!r}, not a number: "
                f"mend it{gap}, or name the columns of numbers with features="
            )
        return np.asarray(made, np.float64)

    def _target(self, column: Any, name: str, first: int) -> npt.NDArray[Any]:
        if self._numeric_target:
            return self._numbers(column, name, first)
        if column.dtype.kind in "buif":
            return self._marked(np.asarray(column), name)
        texts = np.asarray(column.astype("object").where(column.notna(), ""), dtype=str)
        words = self._options.missing_words
        if self._form is not None and (gaps := np.isin(texts, (*GAPS, *words))).any():
            self.gap_words |= set(texts[gaps].tolist()) - {"", *words}
            texts[gaps] = ""
        texts = self._marked_texts(texts, name)
        comma = self._form is not None and self._form.decimal == ","
        return np.asarray([_with_point(text) for text in texts.tolist()], dtype=str) if comma else texts

    def _marked_texts(self, texts: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
        """Does for numbers that may be names of classes what is done for numbers: a gap becomes an empty text."""
        there = texts != ""
        try:
            numbers = self._marked(texts[there].astype(np.float64), name)
        except ValueError:
            return texts
        texts[np.flatnonzero(there)[np.isnan(numbers)]] = ""
        return texts

    def _column(self, frame: Any, name: str) -> Any:
        """Returns a column of the file, or one that holds the name of the file or its folder in each row."""
        if name not in self._named:
            return frame[name]
        import pandas  # noqa: PLC0415 - an extra

        return pandas.Series([self._named[name]] * len(frame), dtype="object")

    def _groups(self, frame: Any, count: int) -> npt.NDArray[Any] | None:
        if not self._options.group:
            return None
        if not self._group:
            return np.full(count, self._partition or self._named[self._options.group])
        column = frame[self._group]
        names = np.char.strip(np.asarray(column.astype("object").where(column.notna(), ""), dtype=str))
        if self._form is not None:
            names[np.isin(names, GAPS)] = ""
        return names


def _header_hint(path: Path, form: CsvFormat, name: str) -> str:
    """Returns where the names of the columns may stand instead, or why there is only one."""
    for row, fields in zip(rows_of(path, form), form.rows, strict=False):
        if name in fields:
            return f", but line {row[0]} names it: remove the lines above that"
    if len(form.columns) == 1 and name in form.columns[0].split():
        return ": fields are separated by a comma, semicolon, tab or |, by blanks only among numbers"
    return ""


def _with_point(text: str) -> str:
    return point_number(text, ",") if is_number(text) else text


def _numeric_columns(form: CsvFormat, words: Sequence[str]) -> set[str]:
    """Returns the columns of which most fields in the first rows, or all of none, are numbers."""
    found = set()
    gaps = frozenset((*GAPS, *NO_NUMBERS, *words))
    for number, name in enumerate(form.columns):
        fields = [row[number] for row in form.rows if number < len(row) and row[number] not in gaps]
        if 2 * sum(map(is_number, fields)) >= len(fields):
            found.add(name)
    return found


def _columns_of_lists(form: CsvFormat | None, columns: Sequence[str]) -> tuple[str, ...]:
    """Returns those of some columns whose first fields are lists of numbers, such as ``70 80 82`` or ``[1, 2]``."""
    if form is None:
        return ()
    found = []
    for name in columns:
        number = form.columns.index(name)
        fields = [row[number] for row in form.rows if number < len(row) and row[number]]
        lists = [re.split(r"[\s,;]+", field.strip("[]() ")) for field in fields[:_LISTS]]
        if lists and all(len(parts) > 1 and all(map(is_number, parts)) for parts in lists):
            found.append(name)
    return tuple(found)


def _unnamed_columns(form: CsvFormat) -> tuple[int, ...]:
    """Returns the numbers, from 1, of columns with values without a name; the first is pandas' index."""
    return tuple(
        number + 1
        for number, name in enumerate(form.columns)
        if number and not name and any(number < len(row) and row[number] for row in form.rows)
    )


def _units(form: CsvFormat, columns: Sequence[str], words: Sequence[str]) -> dict[str, str]:
    """Returns a field of each of some columns whose fields in the first rows are numbers with a unit."""
    gaps = frozenset((*GAPS, *NO_NUMBERS, *words))
    found = {}
    for name in columns:
        number = form.columns.index(name)
        fields = [row[number].strip() for row in form.rows if number < len(row) and row[number] not in gaps]
        if field := number_with_unit(fields):
            found[name] = field
    return found
