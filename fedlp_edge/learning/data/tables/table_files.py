"""This module reads the wanted columns of CSV and Parquet files, part by part."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlp_edge.core.targets import TargetKind
from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.readers.foreign_layouts import SYSTEM_FOLDERS
from fedlp_edge.learning.data.spec import TableOptions
from fedlp_edge.learning.data.tables.column_names import column_hint
from fedlp_edge.learning.data.tables.csv_format import (
    GAPS,
    NO_NUMBERS,
    SWITCHES,
    CsvFormat,
    ends_within_a_line,
    find_format,
    is_number,
    is_text,
    line_of,
    number_with_unit,
    open_rows,
    point_number,
    rows_of,
)
from fedlp_edge.learning.foreign_code import error_line
from fedlp_edge.system.directories import walk_folders

PART_ROWS = 1 << 16
"""Rows that are read together."""

SUFFIXES = {"csv": (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz"), "parquet": (".parquet", ".pq")}
"""Suffixes, in lower case, of the files in a directory that count as tables, by the source."""

FILE = "file"
"""Name of a group that is the name of the file, unless a column is called so."""

_CLOCK_TIME = r"\d:\d"
_TIME_ZONE = r"\d:\d.*?(?:Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)\s*$"
_EPOCH = (2e8, 5e9)
"""Seconds since 1970 that are taken for a date: the years 1976 to 2128."""
_EPOCH_UNITS = (("seconds", 1.0), ("milliseconds", 1e3), ("microseconds", 1e6), ("nanoseconds", 1e9))
_MARKS = (-999.0, -9999.0, -99999.0, -999.9, -999.99, -9999.9, 9999.0, 99999.0, 999999.0, 9999.9, -32768.0, 65535.0)
"""Numbers that loggers, weather services and databases write for a missing value."""
_MARKED = 2
"""Times that such a number occurs at least, to be taken for a mark."""

_DOTTED_CLOCK = r"^\s*(\d{1,2})\.(\d{2})(?:\.(\d{2}))?\s*$"
_SLASHED_DATE = r"^\s*(\d{1,2})[/-](\d{1,2})[/-]\d{2,4}(?!\d)"
_WORD = re.compile(r"[^\W\d_]{1,16}")
_NO_DATE = "0000-00-00"  # of MySQL
_MONTHS = 12
_AROUND_NAMES = " \t\ufeff"  # a byte order mark stands where files were joined
_BEYOND = "\0beyond"  # name of the column beyond those that the header names
_MAX_SHOWN = 8
_FEW, _FAR = 20, 1000
"""Values from which on one is called far, and how many times the width of the others it is away from them."""
_HALF = 0.49


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


def mark_of_gaps(values: npt.NDArray[Any]) -> float | None:
    """Returns the number that looks like a mark of gaps: a usual one, farther from the rest than the rest is wide.

    Args:
        values: Values of a column, [n].
    """
    rest = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not len(rest) or rest.dtype.kind not in "uif":
        return None
    for mark in (float(rest.min()), float(rest.max())):
        if mark in _MARKS:
            others = rest[rest != mark]
            if len(others) and len(rest) - len(others) >= _MARKED:
                low, high = float(others.min()), float(others.max())
                if (low - mark if mark < low else mark - high) > high - low:
                    return mark
    return None


def far_value(values: npt.NDArray[Any]) -> float | None:
    """Returns the value that lies a thousand times farther from the usual ones than these are wide; None if none does.

    A sensor that fails once gives such a value, and mean and deviation of the column then are its own.

    Args:
        values: Values of a column, [n].
    """
    there = values[np.isfinite(values)] if values.dtype.kind in "uif" else np.empty(0)
    if len(there) < _FEW:
        return None
    low, middle, high = np.percentile(there, (5, 50, 95)).tolist()
    worst = float(there[np.argmax(np.abs(there - middle))])
    return worst if high > low and abs(worst - middle) > _FAR * (high - low) else None


class TableFile:
    """Reads one file, after its columns were found.

    Args:
        path: The file.
        source: ``csv`` or ``parquet``.
        options: Roles of the columns.
        kind: Kind of the targets; None if it is not known yet.
        name: Name of the file's group; without suffix that of the file if empty.

    Attributes:
        columns: Names of all columns.
        numbers: Names of the columns of numbers that have no role, in the order of the file.
        text: Names of the columns of text that have no role.
        nested: Names of the columns of lists or records that have no role.
        unnamed: Numbers, from 1, of the columns of a CSV file that hold values and have no name.
        units: A field of each column of text that holds numbers with a unit, by column.
        gap_words: Words that were taken for a missing class, so far.
        encoding: Encoding that was guessed, since the file is no UTF-8; empty if it is certain.
        marks: Numbers that look like marks of gaps, by the column that holds them, so far.
        far: Numbers that are far from all others of their column, by column, so far.
        headers: Number of lines that name the columns once more, so far.
        line_of_units: Whether a CSV file has lines of units below the names of its columns.
        has_rows: Whether a CSV file has rows below the names of its columns.
        ends_within_a_line: Whether the last line of a CSV file has no end.

    Raises:
        DataError: The file cannot be read, or lacks a column.
    """

    def __init__(self, path: Path, source: str, options: TableOptions, kind: TargetKind | None, name: str = "") -> None:
        self.path = path
        self.gap_words: set[str] = set()
        self.marks: dict[str, float] = {}
        self.far: dict[str, float] = {}
        self.headers = 0
        self._headers_of_part = 0
        self._name = name or path.stem
        self._month_first: bool | None = None
        self._zoned: bool | None = None
        self._epoch_unit: int | None = None
        self._options = options
        self._numeric_target = kind in ("values", "labels") or len(options.target) > 1
        self._form: CsvFormat | None = find_format(path, options.encoding) if source == "csv" else None
        if self._form is not None:
            self.columns = tuple(name for name in self._form.columns if name)
            numeric = _numeric_columns(self._form, options.missing_words)
        else:
            self.columns, numeric = _parquet_columns(path)
        self._known = frozenset(self.columns)
        guessed = self._form is not None and self._form.encoding == "cp1252" and not options.encoding
        self.encoding = "cp1252" if guessed else ""
        self._group = options.group if options.group in self._known else ""
        self._partition = _partition_of(path, options.group) if options.group and not self._group else ""
        roles = {*options.target, self._group, *options.time}
        for column in (*options.target, *options.features, *options.time):
            self._check_there(column)
        if options.group and not self._group and not self._partition and options.group != FILE:
            self._check_there(options.group)
        nested = _nested_columns(path) if self._form is None else frozenset[str]()
        for column in (*options.target, *options.features, self._group, *options.time):
            if column in nested:
                raise DataError(
                    f"{path}: column {column!r} holds lists or records: give each value a column of its own"
                )
        left = [column for column in self.columns if column not in roles]
        self.numbers = tuple(column for column in left if column in numeric)
        self.text = tuple(column for column in left if column not in numeric and column not in nested)
        self.nested = tuple(column for column in left if column in nested)
        self.unnamed = () if self._form is None else _unnamed_columns(self._form)
        self.units = {} if self._form is None else _units(self._form, self.text, options.missing_words)
        self.line_of_units = self._form is not None and self._form.units
        self.has_rows = self._form is None or bool(self._form.rows)
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
        wanted = [*features, *self._options.target, *filter(None, (self._group, *self._options.time))]
        first = 0
        for frame in self._frames(list(dict.fromkeys(wanted))):
            n = len(frame)
            made = np.empty((n, len(features)), np.float32)
            for number, name in enumerate(features):
                with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and left out as a gap is
                    made[:, number] = self._numbers(frame[name], name, first)
            yield TablePart(
                features=made,
                target=[self._target(frame[name], name, first) for name in self._options.target],
                group=self._groups(frame, n),
                time=self._times_and_gaps(self._joined_times(frame), first) if self._options.time else None,
            )
            first += n
            self.headers += self._headers_of_part

    def place(self, row: int) -> str:
        """Returns where a row stands, for messages: file and line, or file and row."""
        if self._form is not None:
            return f"{self.path}:{line_of(self.path, self._form, row)}"
        return f"{self.path}: row {row}"

    def _check_there(self, name: str) -> None:
        if name in self._known:
            return
        hint = column_hint(name, self.columns)
        more = ", ..." if len(self.columns) > _MAX_SHOWN else ""
        line = ":1" if self._form is not None else ""
        if self._form is not None and not hint:
            hint = _header_hint(self.path, self._form, name)
        if self.encoding and not hint:
            hint = " (it is no UTF-8 and was read as Windows-1252: name another with encoding=, such as shift_jis)"
        raise DataError(
            f"{self.path}{line}: there is no column {name!r}{hint}; "
            f"its columns are {', '.join(self.columns[:_MAX_SHOWN])}{more}"
        )

    def _frames(self, wanted: list[str]) -> Iterator[Any]:
        if self._form is None:
            yield from _parquet_frames(self.path, wanted)
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
                open_rows(self.path, form) as rows,
                pandas.read_csv(
                    rows,
                    sep=form.delimiter,
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
        except DataError:
            raise
        except EOFError:
            raise DataError(f"{self.path} is compressed by gzip and cut short: copy it again") from None
        except MemoryError:
            raise DataError(f"cannot read {self.path}: it takes more memory than there is") from None
        except Exception as error:
            raise DataError(self._reason(error)) from None

    def _without_headers(self, frame: Any) -> Any:
        """Returns rows without those that name the columns once more; such a row makes text of all columns."""
        self._headers_of_part = 0
        if any(frame[name].dtype.kind != "O" for name in frame.columns):
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
        width = len(self._form.columns) if self._form is not None else 0
        for line, row in rows_of(self.path, self._form) if self._form is not None else ():
            if len(row) > width and any(field.strip() for field in row[width:]):
                return f"{self.path}:{line}: {len(row)} fields, but the header names {width} columns: mend the line"
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
            if "\0" in str(column.iloc[row]):
                raise DataError(f"{self.place(first + row)}: zero bytes, as a power cut leaves them: remove them")
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

    def _groups(self, frame: Any, count: int) -> npt.NDArray[Any] | None:
        if not self._options.group:
            return None
        if not self._group:
            return np.full(count, self._partition or self._name)
        column = frame[self._group]
        names = np.char.strip(np.asarray(column.astype("object").where(column.notna(), ""), dtype=str))
        if self._form is not None:
            names[np.isin(names, GAPS)] = ""
        return names

    def _joined_times(self, frame: Any) -> Any:
        """Returns the column of times; a date and a clock time in two columns become one text."""
        date, *clock = (frame[name] for name in self._options.time)
        if not clock:
            return date
        if getattr(date.dtype, "kind", "") == "M":
            date = date.dt.strftime("%Y-%m-%d")
        at = clock[0].astype("object").where(clock[0].notna(), "").astype(str)
        at = at.str.replace(_DOTTED_CLOCK, lambda found: ":".join(filter(None, found.groups())), regex=True)
        return (date.astype("object").astype(str) + " " + at).where(date.notna() & clock[0].notna())

    @property
    def _time_name(self) -> str:
        return " and ".join(self._options.time)

    def _times_and_gaps(self, column: Any, first: int) -> npt.NDArray[np.float64]:
        gaps = np.asarray(column.isna(), np.bool_)
        if column.dtype.kind == "O":
            gaps = gaps | np.asarray(column.astype("string").str.startswith(_NO_DATE).fillna(False), np.bool_)
        if gaps.all():
            return np.full(len(column), np.nan)
        if gaps.any():
            column = column.where(~gaps).ffill().bfill()  # so that rows keep their places in messages
        times = self._times(column, first)
        return np.where(gaps, np.nan, times)

    def _times(self, column: Any, first: int) -> npt.NDArray[np.float64]:
        import pandas  # noqa: PLC0415 - an extra

        if column.dtype.kind in "buif":
            return self._in_one_unit(np.asarray(column, np.float64), first)
        if column.dtype.kind != "M":
            text = column.astype("object")
            if self._form is not None and self._form.decimal == ",":
                text = text.map(lambda value: value.replace(",", ".") if isinstance(value, str) else value)
            numbers = pandas.to_numeric(text, errors="coerce")
            if numbers.notna().all():
                return self._in_one_unit(np.asarray(numbers, np.float64), first)
            self._check_zones(column, first)
            dates = pandas.to_datetime(column, format="ISO8601", errors="coerce", utc=True)
            if dates.isna().any():
                day_first = not self._has_month_first(self._options.time[0])
                dates = pandas.to_datetime(column, format="mixed", dayfirst=day_first, errors="coerce", utc=True)
            bad = np.asarray(numbers.isna() if bool(numbers.notna().mean() > _HALF) else dates.isna())
            if bad.any():
                row = int(np.argmax(bad))
                raise DataError(
                    f"{self.place(first + row)}: column {self._time_name!r} holds {str(column.iloc[row])[:40]!r}, "
                    "neither a date nor a number: mend it"
                )
            column = dates
        if column.dt.tz is not None:
            column = column.dt.tz_convert("UTC").dt.tz_localize(None)
        return np.asarray(column.astype("datetime64[us]"), "datetime64[us]").astype(np.int64).astype(np.float64)

    def _in_one_unit(self, times: npt.NDArray[np.float64], first: int) -> npt.NDArray[np.float64]:
        """Returns times that are numbers, having checked that they are dates in one unit if all of them are dates.

        Raises:
            DataError: Some count seconds since 1970, say, and others milliseconds.
        """
        units = np.full(len(times), -1)
        for number, (_, in_a_second) in enumerate(_EPOCH_UNITS):
            units[(times >= _EPOCH[0] * in_a_second) & (times < _EPOCH[1] * in_a_second)] = number
        dates = units[np.isfinite(times)]
        # What merely grows large, such as a counter, passes through numbers that are a date in no unit.
        if not len(dates) or (dates < 0).any():
            return times
        if self._epoch_unit is None:
            self._epoch_unit = int(dates[0])
        if (odd := (units >= 0) & (units != self._epoch_unit)).any():
            row = int(np.argmax(odd))
            raise DataError(
                f"{self.place(first + row)}: column {self._time_name!r} holds {times[row]:.0f}, a time in "
                f"{_EPOCH_UNITS[units[row]][0]} since 1970, and others in {_EPOCH_UNITS[self._epoch_unit][0]}: write "
                "all in one unit"
            )
        return times

    def _check_zones(self, column: Any, first: int) -> None:
        """Checks that all times of the file have a time zone, or none has: otherwise nobody knows their order.

        Raises:
            DataError: Some have one, and others have none.
        """
        times = column[column.notna() & column.astype(str).str.contains(_CLOCK_TIME)]
        zoned = times.astype(str).str.contains(_TIME_ZONE)
        if not len(zoned):
            return
        if self._zoned is None:
            self._zoned = bool(zoned.iloc[0])
        if (odd := zoned[zoned != self._zoned]).size:
            row = int(odd.index[0]) - int(column.index[0])
            raise DataError(
                f"{self.place(first + row)}: column {self._time_name!r} holds {str(column.iloc[row])[:40]!r}, and "
                "other times with and without a time zone: write all with one, or all without"
            )

    def _has_month_first(self, name: str) -> bool:
        """Tells whether dates such as 01/31/2024 have the month first; if none tells, they have the day first."""
        if self._month_first is None:
            seen: dict[bool, int] = {}  # the first row that tells, by whether the month is first there
            first = 0
            for frame in self._frames([name]):
                parts = frame[name].astype("string").str.extract(_SLASHED_DATE).astype("Float64")
                for number, month_first in ((0, False), (1, True)):
                    beyond = np.asarray((parts[number] > _MONTHS).fillna(False), np.bool_)
                    if beyond.any():
                        seen.setdefault(month_first, first + int(np.argmax(beyond)))
                first += len(frame)
            if len(seen) > 1:
                later = max(seen, key=lambda month_first: seen[month_first])
                order = ("month", "day") if later else ("day", "month")
                raise DataError(
                    f"{self.place(seen[later])}: column {name!r} has the {order[0]} first here and the {order[1]} "
                    "first elsewhere: write dates as 2024-01-31"
                )
            self._month_first = seen.get(True) is not None
        return self._month_first


def table_files(path: Path, source: str) -> list[Path]:
    """Returns a table's file, or the tables in a directory and its subdirectories, in the order of their names.

    Raises:
        DataError: The directory cannot be read, or holds no table.
    """
    if not path.is_dir():
        return [path]
    suffixes = SUFFIXES[source]

    def unreadable(error: OSError) -> None:
        folder = Path(error.filename or path)
        if folder == path or not _is_hidden(folder, path, source):
            raise DataError(f"cannot read {folder}: {error.strerror}") from None

    below = (here / name for here, names in walk_folders(path, unreadable) for name in names)
    found = sorted(
        file
        for file in below
        if file.name.lower().endswith(suffixes) and not _is_hidden(file, path, source) and file.is_file()
    )
    if any(_is_note(file) for file in found) and not all(_is_note(file) for file in found):
        found = [file for file in found if not _is_note(file)]
    if not found:
        raise DataError(f"{path} holds no table: it needs files that end in {', '.join(suffixes[:3])}")
    return found


def file_names(files: Sequence[Path], root: Path) -> list[str]:
    """Returns a name for each file's group: its own without suffix, with its folders where that is not unique."""
    short = [_without_suffix(file.name) for file in files]
    if len(set(short)) == len(short):
        return short
    return [_without_suffix(file.relative_to(root).as_posix()) for file in files]


def _without_suffix(name: str) -> str:
    suffixes = sorted((suffix for some in SUFFIXES.values() for suffix in some), key=len, reverse=True)
    return next((name[: -len(suffix)] for suffix in suffixes if name.lower().endswith(suffix)), name)


def _is_hidden(entry: Path, root: Path, source: str) -> bool:
    """Tells whether an entry is none of the owner's: editors, notebooks, systems and Spark keep it for themselves."""
    hidden = (".", "_", "~") if source == "parquet" else (".", "~$", "__MACOSX")
    parts = entry.relative_to(root).parts
    return any(part.startswith(hidden) or part.lower() in SYSTEM_FOLDERS for part in parts)


def _is_note(file: Path) -> bool:
    return file.name.lower().endswith(".txt")


def _partition_of(path: Path, key: str) -> str:
    """Returns the value of a key in folders such as ``machine=7``, as Hive and Spark write them; empty if none."""
    return next((part.partition("=")[2] for part in reversed(path.parts) if part.partition("=")[0] == key), "")


def _header_hint(path: Path, form: CsvFormat, name: str) -> str:
    """Returns where the names of the columns may stand instead, or why there is only one."""
    for row, fields in zip(rows_of(path, form), form.rows, strict=False):
        if name in fields:
            return f", but line {row[0]} names it: remove the lines above that"
    if len(form.columns) == 1 and name in form.columns[0].split():
        return ": fields are separated by a comma, semicolon, tab or |, not by blanks"
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


def _parquet_columns(path: Path) -> tuple[tuple[str, ...], set[str]]:
    try:
        import pyarrow.parquet  # noqa: PLC0415 - an extra

        schema = pyarrow.parquet.read_schema(path)
    except Exception as error:  # ArrowInvalid, OSError and others
        if "magic bytes" in str(error):
            other = "; for a CSV file write csv:FILE" if is_text(path) else ""
            raise DataError(f"{path} is no Parquet file, or it is cut short{other}") from None
        raise DataError(f"cannot read {path}: {error_line(error)}") from None
    twice = [name for name in schema.names if schema.names.count(name) > 1] if _are_alike(schema.names) else []
    if twice:
        raise DataError(f"{path}: two columns are both called {twice[0]!r}: rename one")
    types = pyarrow.types
    tests = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
    numeric = {field.name for field in schema if any(test(field.type) for test in tests)}
    return tuple(name for name in schema.names if not name.startswith("__index_level_")), numeric


def _are_alike(names: Sequence[str]) -> bool:
    return len(set(names)) < len(names)


def _nested_columns(path: Path) -> frozenset[str]:
    import pyarrow.parquet  # noqa: PLC0415 - an extra

    schema = pyarrow.parquet.read_schema(path)
    return frozenset(field.name for field in schema if pyarrow.types.is_nested(field.type))


def _parquet_frames(path: Path, wanted: list[str]) -> Iterator[Any]:
    try:
        import pyarrow.parquet  # noqa: PLC0415 - an extra

        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=PART_ROWS, columns=wanted):
                # A pandas index stays a column.
                yield batch.to_pandas(ignore_metadata=True)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"cannot read {path}: {error_line(error)}") from None
