"""This module reads the rows of a table's file by the roles of their columns: features, targets, groups and times."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlp_edge.core.targets import TargetKind
from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.spec.data_spec import TableOptions
from fedlp_edge.learning.data.tables.column_names import column_hint
from fedlp_edge.learning.data.tables.doubtful_values import far_value, mark_of_gaps
from fedlp_edge.learning.data.tables.field_values import GAPS, NO_NUMBERS, SWITCHES, is_number, point_number
from fedlp_edge.learning.data.tables.formats.opening import open_table
from fedlp_edge.learning.data.tables.table_folders import partition_of
from fedlp_edge.learning.data.tables.time_column import TimeColumn

FILE = "file"
"""Name of a group or a class that is the name of the file, unless a column is called so."""

FOLDER = "folder"
"""Name of a group or a class that is the name of the folder below that of the table, unless a column is called so."""

_WORD = re.compile(r"[^\W\d_]{1,16}")
_MAX_SHOWN = 8


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
        reader: The file, whatever its format.
        numbers: Names of the columns of numbers that have no role, in the order of the file.
        text: Names of the columns of text that have no role.
        times: Names of the columns of points in time or durations that have no role.
        nested: Names of the columns of lists or records that have no role.
        lists: Names of those of text, or of lists, whose fields hold several numbers each.
        units: A field of each column of text that holds numbers with a unit, by column.
        gap_words: Words that were taken for a missing class, so far.
        marks: Numbers that look like marks of gaps, by the column that holds them, so far.
        far: Numbers that are far from all others of their column, by column, so far.

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
        self._options = options
        self._numeric_target = kind in ("values", "labels") or len(options.target) > 1
        self.reader = reader = open_table(path, source, options)
        self._known = frozenset(reader.columns)
        named = {FILE: name or path.stem, FOLDER: folder}
        self._named = {name: value for name, value in named.items() if name not in self._known}
        self._group = options.group if options.group in self._known else ""
        self._partition = partition_of(path, options.group) if options.group and not self._group else ""
        self._check_roles()
        roles = {*options.target, self._group, *options.time}
        left = [column for column in reader.columns if column not in roles]
        self.numbers = tuple(column for column in left if column in reader.numbers)
        self.times = tuple(column for column in left if column in reader.times)
        others = [column for column in left if column not in reader.numbers and column not in reader.times]
        self.text = tuple(column for column in others if column not in reader.nested)
        self.lists = reader.lists(others)
        self.nested = tuple(column for column in others if column in reader.nested and column not in self.lists)
        self.units = dict(reader.units(self.text))
        self._time = TimeColumn(options.time, reader.decimal, self.place, lambda: self._frames([options.time[0]]))

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

    def place(self, row: int) -> str:
        """Returns where a row stands, for messages: file and line, or file and row."""
        return self.reader.place(row)

    def _check_roles(self) -> None:
        """Checks that the columns that have a role are there, and hold one value in each row."""
        options = self._options
        for column in (*options.target, *options.features, *options.time):
            if column not in options.target or column not in self._named:
                self._check_there(column)
        if options.group and not self._group and not self._partition and options.group not in self._named:
            self._check_there(options.group)
        for column in (*options.target, *options.features, self._group, *options.time):
            if column in self.reader.nested:
                raise DataError(
                    f"{self.path}: column {column!r} holds lists or records: give each value a column of its own"
                )

    def _check_there(self, name: str) -> None:
        if name in self._known:
            return
        columns = self.reader.columns
        hint = column_hint(name, columns) or self.reader.hint(name)
        more = ", ..." if len(columns) > _MAX_SHOWN else ""
        raise DataError(
            f"{self.path}{self.reader.header_place}: there is no column {name!r}{hint}; "
            f"its columns are {', '.join(columns[:_MAX_SHOWN])}{more}"
        )

    def _frames(self, wanted: list[str]) -> Iterator[Any]:
        times = frozenset(wanted) & frozenset(self._options.time)
        return self.reader.frames(wanted, frozenset(filter(self._is_text, wanted)) - times, times)

    def _is_text(self, name: str) -> bool:
        options = self._options
        if name in options.features:
            return False
        return name == self._group or (name in options.target and not self._numeric_target)

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
        texts = texts.where(~texts.isin((*GAPS, *NO_NUMBERS, *self._options.missing_words)))
        words = {value.lower() for value in texts[texts.notna()] if isinstance(value, str)}
        if words and words <= SWITCHES.keys():
            texts = texts.map(lambda value: SWITCHES[value.lower()] if isinstance(value, str) else value)
        texts = texts.replace({"True": 1, "False": 0, "true": 1, "false": 0, True: 1, False: 0})
        decimal = self.reader.decimal
        texts = texts.map(lambda value: point_number(value, decimal) if isinstance(value, str) else value)
        made = pandas.to_numeric(texts, errors="coerce")
        bad = np.asarray(made.isna() & texts.notna())
        if bad.any():
            row = int(np.argmax(bad))
            word = str(column.iloc[row]).strip()
            gap = f", add missing={word} if it stands for a gap" if _WORD.fullmatch(word) else ""
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
        if (gaps := np.isin(texts, (*self.reader.gaps, *words))).any():
            self.gap_words |= set(texts[gaps].tolist()) - {"", *words}
            texts[gaps] = ""
        texts = self._marked_texts(texts, name)
        comma = self.reader.decimal == ","
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
        names[np.isin(names, self.reader.gaps)] = ""
        return names


def _with_point(text: str) -> str:
    return point_number(text, ",") if is_number(text) else text
