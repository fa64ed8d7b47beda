"""This module reads the rows of the files of a table: values, targets, series by group, times and gaps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fedlp_edge.core.targets import TargetKind
from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.partitioners import Indices
from fedlp_edge.learning.data.readers.groups import numbered_groups
from fedlp_edge.learning.data.readers.row_files import AnyArray, Rows, RowSpool
from fedlp_edge.learning.data.spec.data_spec import DataSpec, TableOptions
from fedlp_edge.learning.data.tables.formats.mended_lines import is_blank
from fedlp_edge.learning.data.tables.formats.unfinished import unfinished_files
from fedlp_edge.learning.data.tables.row_counters import RowCounters
from fedlp_edge.learning.data.tables.table_files import TableFile
from fedlp_edge.learning.data.tables.table_folders import copies_in, file_names, folder_name, table_files
from fedlp_edge.learning.data.tables.table_report import TableReport
from fedlp_edge.system.machine_cache import cache_directory

_WHOLE_WITH_EXPONENT = re.compile(r"\d(\.\d+)?[eE][+-]?0?\d")  # as numpy.savetxt writes numbers of classes


@dataclass
class TableRows:
    """Holds what was read of all files.

    Attributes:
        rows: Features, float32 [R, F].
        features: Names of the F features.
        target: Values of each target column, [R].
        series: Number of the series of each row, int64 [R]: of one group in one file.
        group: Number of the group of each series, int64.
        group_names: Names of the groups by number.
        time: Time of each row, float64 [R], NaN where it is missing; None if the order in the files counts.
        gaps: Whether a feature of each row has no value, bool [R].
        skipped: What is left out.
    """

    rows: Rows
    features: tuple[str, ...]
    target: list[AnyArray]
    series: Indices
    group: Indices
    group_names: tuple[str, ...]
    time: npt.NDArray[np.float64] | None
    gaps: npt.NDArray[np.bool_]
    skipped: TableReport = field(default_factory=TableReport)


def read_rows(spec: DataSpec, kind: TargetKind | None) -> TableRows:
    """Reads all files of a table.

    Args:
        spec: Data specification of a table.
        kind: Kind of the targets; None if it is not known yet.

    Raises:
        DataError: A file is missing or unusable, or lacks a column; the message names file, line and column.
    """
    paths = table_files(spec.path, spec.source)
    written = [path for path in paths if not is_blank(path)] or paths
    unfinished = unfinished_files(written)
    whole = [path for path in written if path not in unfinished]
    files = _opened(spec, kind, whole)
    empty = len(paths) - len(unfinished) - len(files)
    features = spec.table.features or files[0].numbers
    if not features:
        raise DataError(_no_numbers(files[0]))
    gathered = _Gathered(spec, features, _report(spec.table, empty, files))
    for file in files:
        if not spec.table.features:
            _check_same_numbers(file, files[0])
        gathered.add(file)
    table = gathered.table()
    _take_notes(table.skipped, files)
    table.skipped.copies = _names(spec, copies_in([file.path for file in files]))
    table.skipped.unfinished = _names(spec, unfinished)
    return _numbered_by_name(table)


class _Gathered:
    """The rows of some files, as they are read.

    Args:
        spec: Data specification of the table.
        features: Names of the features.
        report: Report that gets what is found out.
    """

    def __init__(self, spec: DataSpec, features: Sequence[str], report: TableReport) -> None:
        self._source = f"{spec.source}:{spec.argument}"
        self._features = tuple(features)
        self._report = report
        self._spool = RowSpool(spec.memory_bound, cache_directory("tables"))
        self._counters = RowCounters(() if spec.table.features else self._features)
        self._without = np.zeros(len(features), np.int64)  # rows in which each feature has no value
        self._names: dict[str, int] = {}
        self._series_of: dict[tuple[int, int], int] = {}
        self._files = 0
        self._target: list[list[AnyArray]] = [[] for _ in spec.table.target]
        self._series: list[Indices] = []
        self._times: list[npt.NDArray[np.float64]] = []
        self._gaps: list[npt.NDArray[np.bool_]] = []

    def add(self, file: TableFile) -> None:
        """Adds all rows of a file.

        Raises:
            DataError: The file is unusable, or lacks a column.
        """
        first = 0
        before = len(self._target[0]) if self._target else 0
        self._counters.begin()
        for part in file.parts(self._features):
            self._counters.look_at(part.features)
            self._note_gaps(file, first, part.features)
            self._spool.add(part.features)
            for column_values, values in zip(self._target, part.target, strict=True):
                column_values.append(values)
            if part.time is not None:
                self._times.append(part.time)
            self._series.append(self._numbered(part.group, len(part.features)))
            first += len(part.features)
        _leave_out_cut_class(file, [columns[before:] for columns in self._target])
        self._files += 1

    def table(self) -> TableRows:
        """Returns all rows that were added.

        Raises:
            DataError: There is none.
        """
        report, worst = self._report, int(np.argmax(self._without))
        report.rows = sum(map(len, self._series))
        if not report.rows:
            raise DataError(f"{self._source} has no rows")
        if len(self._features) > 1:
            report.sparse = (self._features[worst], int(self._without[worst]))
        report.counters = self._counters.names
        return TableRows(
            rows=self._spool.finish(),
            features=self._features,
            target=[_joined(values) for values in self._target],
            series=np.concatenate(self._series),
            group=np.fromiter((group for _, group in self._series_of), np.int64, len(self._series_of)),
            group_names=tuple(self._names),
            time=np.concatenate(self._times) if self._times else None,
            gaps=np.concatenate(self._gaps),
            skipped=report,
        )

    def _note_gaps(self, file: TableFile, first: int, features: npt.NDArray[np.float32]) -> None:
        """Notes which rows lack a value.

        Args:
            file: File of the rows.
            first: Number of the first of them in the file.
            features: Values, float32 [R, F].
        """
        finite = np.isfinite(features)
        self._without += (~finite).sum(axis=0)
        incomplete = np.asarray(~finite.all(axis=1))
        if incomplete.any() and not self._report.first_gap:
            row = int(np.argmax(incomplete))
            column = self._features[int(np.argmin(finite[row]))]
            self._report.first_gap = f"{file.place(first + row)}, column {column!r}"
        self._gaps.append(incomplete)

    def _numbered(self, group: AnyArray | None, count: int) -> Indices:
        """Returns the number of the series of each row, and adds new groups and series to what is known."""
        if group is None:
            group = np.full(count, "")
        found, where = np.unique(group, return_inverse=True)
        groups = [self._names.setdefault(name, len(self._names)) for name in found.tolist()]
        known = self._series_of
        numbers = [known.setdefault((self._files, group), len(known)) for group in groups]
        return np.asarray(numbers, np.int64)[where.reshape(-1)]


def _report(options: TableOptions, empty: int, files: list[TableFile]) -> TableReport:
    """Returns what the columns alone tell: what is not used of them, unless features are named.

    Args:
        options: Options of the table.
        empty: Number of empty files.
        files: All others, of which the first tells the columns.
    """
    guessed = next((str(file.path) for file in files if file.reader.guessed_encoding), "")
    if options.features:
        return TableReport(empty, guessed=guessed)
    first = files[0]
    return TableReport(
        empty,
        guessed=guessed,
        text=first.text,
        times=first.times,
        nested=first.nested,
        lists=first.lists,
        units=first.units,
        unnamed=first.reader.unnamed,
    )


def _check_same_numbers(file: TableFile, first: TableFile) -> None:
    """Checks that two files have the same columns of numbers.

    Raises:
        DataError: They have not.
    """
    if odd := set(file.numbers) ^ set(first.numbers):
        raise DataError(
            f"{file.path}: its columns of numbers are not those of {first.path}, see {min(odd)!r}: mend it, or name "
            "those that all files have with features="
        )


def _opened(spec: DataSpec, kind: TargetKind | None, paths: list[Path]) -> list[TableFile]:
    """Opens the files of a table; returns those with rows, or all of them if none has any, for the message."""
    files = [
        TableFile(path, spec.source, spec.table, kind, name, folder_name(path, spec.path))
        for path, name in zip(paths, file_names(paths, spec.path), strict=True)
    ]
    filled = [file for file in files if file.reader.has_rows]  # a logger begins a day with the names of its columns
    return filled or files


def _names(spec: DataSpec, paths: Iterable[Path]) -> tuple[str, ...]:
    """Returns the names of some files below the directory of a table."""
    return tuple(path.relative_to(spec.path).as_posix() for path in paths)


def _leave_out_cut_class(file: TableFile, target: list[list[AnyArray]]) -> None:
    """Empties the last class of a file that ends within a line, if it is nothing but the beginning of another one.

    Such a file is being written: what a logger has not written yet stands in its memory.

    Args:
        file: The file.
        target: Its values of each target column, in parts.
    """
    parts = target[0] if len(target) == 1 and file.reader.ends_within_a_line else []
    if not parts or not len(parts[-1]) or any(part.dtype.kind != "U" for part in parts):
        return
    last = str(parts[-1][-1])
    known = set().union(*(np.unique(part).tolist() for part in [*parts[:-1], parts[-1][:-1]]))
    if last and last not in known and any(name.startswith(last) for name in known):
        parts[-1][-1] = ""


def _no_numbers(file: TableFile) -> str:
    if file.nested:
        return (
            f"{file.path}: no column of numbers is left for the model, but {file.nested[0]!r} holds pictures, lists or "
            f"records: pictures and lists of one length are read by huggingface:{file.path}"
        )
    if file.lists:
        return (
            f"{file.path}: no column of numbers is left for the model, but {file.lists[0]!r} holds several in each "
            "field: a function of yours can take them apart, module:callable (docs/data.md has an example)"
        )
    return f"{file.path}: no column of numbers is left for the model: name them with features="


def _take_notes(report: TableReport, files: list[TableFile]) -> None:
    """Takes over what the files have found out about their values."""
    report.marks = {name: mark for file in files for name, mark in file.marks.items()}
    report.far = {name: value for file in files for name, value in file.far.items() if name not in report.marks}
    report.headers = sum(file.reader.headers for file in files)
    report.zeroed = sum(file.reader.zeroed for file in files)
    report.line_of_units = any(file.reader.line_of_units for file in files)
    report.gap_words = tuple(sorted(set().union(*(file.gap_words for file in files))))


def _joined(parts: list[AnyArray]) -> AnyArray:
    if len({part.dtype.kind in "US" for part in parts}) > 1:
        parts = [part.astype(str) for part in parts]
    joined = np.concatenate(parts)
    return _as_numbers(joined) if joined.dtype.kind == "U" else joined


def _as_numbers(texts: AnyArray) -> AnyArray:
    """Converts a column of text to whole numbers if all fields are such numbers, or numbers such as 1.0 or 1.0e+00."""
    distinct, where = np.unique(texts, return_inverse=True)
    made = []
    for written in distinct.tolist():
        is_whole = _WHOLE_WITH_EXPONENT.fullmatch(written) and float(written).is_integer()
        text = str(int(float(written))) if is_whole else written
        number, _, rest = text.partition(".")
        if text and not (
            number.isascii() and number.isdecimal() and number == str(int(number)) and not rest.strip("0")
        ):
            return texts
        made.append(number if text else "")
    return np.asarray(made)[where.reshape(-1)]


def _numbered_by_name(table: TableRows) -> TableRows:
    """Numbers the groups in the order of their names, so that all devices number them alike."""
    numbers, table.group_names = numbered_groups(table.group_names)
    table.group = numbers[table.group]
    return table
