"""This module reads the wanted columns of CSV and Parquet files, part by part."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlp_edge.core.targets import TargetKind
from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.spec import TableOptions
from fedlp_edge.learning.data.tables.csv_format import CsvFormat, find_format, is_number, line_of, rows_of
from fedlp_edge.learning.foreign_code import error_line

PART_ROWS = 1 << 16
"""Rows that are read together."""

SUFFIXES = {"csv": (".csv", ".tsv", ".txt"), "parquet": (".parquet", ".pq")}
"""Suffixes, in lower case, of the files in a directory that count as tables, by the source."""

FILE = "file"
"""Name of a group that is the name of the file, unless a column is called so."""

_GAPS = ("", "-", "?", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "#N/A", "#NV", "#DIV/0!")
_BEYOND = "\0beyond"  # name of the column beyond those that the header names
_MAX_SHOWN = 8
_HALF = 0.49


@dataclass(frozen=True, slots=True)
class TablePart:
    """Holds successive rows of a file.

    Attributes:
        features: Values, float32 [n, F]; a gap is not finite.
        target: Values of the target columns, a list of arrays [n] of text or numbers.
        group: Name of the group of each row, text [n]; None without groups.
        time: Time of each row, float64 [n]; None if the order in the file counts.
    """

    features: npt.NDArray[np.float32]
    target: list[npt.NDArray[Any]]
    group: npt.NDArray[Any] | None
    time: npt.NDArray[np.float64] | None


class TableFile:
    """Reads one file, after its columns were found.

    Args:
        path: The file.
        source: ``csv`` or ``parquet``.
        options: Roles of the columns.
        kind: Kind of the targets; None if it is not known yet.

    Attributes:
        columns: Names of all columns.
        numbers: Names of the columns of numbers that have no role, in the order of the file.
        text: Names of the columns of text that have no role.

    Raises:
        DataError: The file cannot be read, or lacks a column.
    """

    def __init__(self, path: Path, source: str, options: TableOptions, kind: TargetKind | None) -> None:
        self.path = path
        self._options = options
        self._numeric_target = kind in ("values", "labels") or len(options.target) > 1
        self._form: CsvFormat | None = find_format(path) if source == "csv" else None
        if self._form is not None:
            self.columns = tuple(name for name in self._form.columns if name)
            numeric = _numeric_columns(self._form)
        else:
            self.columns, numeric = _parquet_columns(path)
        self._group = options.group if options.group in self.columns else ""
        roles = {*options.target, self._group, options.time}
        for name in (*options.target, *options.features, *([options.time] if options.time else [])):
            self._check_there(name)
        if options.group and not self._group and options.group != FILE:
            self._check_there(options.group)
        left = [name for name in self.columns if name not in roles]
        self.numbers = tuple(name for name in left if name in numeric)
        self.text = tuple(name for name in left if name not in numeric)

    def parts(self, features: Sequence[str]) -> Iterator[TablePart]:
        """Yields the rows of the file, part by part.

        Args:
            features: Names of the columns that become features.

        Raises:
            DataError: A row has too many fields, or a field is no number; the message names file, line and column.
        """
        for name in features:
            self._check_there(name)
        wanted = [*features, *self._options.target, *filter(None, (self._group, self._options.time))]
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
                time=self._times(frame[self._options.time], first) if self._options.time else None,
            )
            first += n

    def place(self, row: int) -> str:
        """Returns where a row stands, for messages: file and line, or file and row."""
        if self._form is not None:
            return f"{self.path}:{line_of(self.path, self._form, row)}"
        return f"{self.path}: row {row}"

    def _check_there(self, name: str) -> None:
        if name in self.columns:
            return
        near = difflib.get_close_matches(name, self.columns, 1)
        hint = f": is it {near[0]!r}?" if near else ""
        more = ", ..." if len(self.columns) > _MAX_SHOWN else ""
        line = ":1" if self._form is not None else ""
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
        as_text = {name: str for name in wanted if self._is_text(name)}
        try:
            with pandas.read_csv(
                self.path,
                sep=form.delimiter,
                header=None,
                names=names,
                index_col=False,
                skiprows=form.header_lines,
                decimal=form.decimal,
                thousands=form.thousands or None,
                encoding=form.encoding,
                encoding_errors="replace",
                skipinitialspace=True,
                na_values=list(_GAPS),
                dtype=as_text,
                chunksize=PART_ROWS,
                low_memory=False,
            ) as reader:
                for frame in reader:
                    if frame[_BEYOND].notna().any():
                        raise DataError(self._too_many_fields())
                    yield frame[wanted]
        except DataError:
            raise
        except MemoryError:
            raise DataError(f"cannot read {self.path}: it takes more memory than there is") from None
        except Exception as error:
            raise DataError(self._reason(error)) from None

    def _reason(self, error: Exception) -> str:
        too_many = "Expected" in str(error) and "fields in line" in str(error)
        return (self._too_many_fields() if too_many else "") or f"cannot read {self.path}: {error_line(error)}"

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
        return name in (self._group, options.time) or (name in options.target and not self._numeric_target)

    def _numbers(self, column: Any, name: str, first: int) -> npt.NDArray[np.float64]:
        """Returns a column as numbers, with NaN for gaps."""
        if column.dtype.kind in "buif":
            return np.asarray(column, np.float64)
        import pandas  # noqa: PLC0415 - an extra

        if pandas.api.types.is_numeric_dtype(column) or pandas.api.types.is_bool_dtype(column):  # with missing values
            return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
        texts = column.astype("object").map(lambda value: value.strip() if isinstance(value, str) else value)
        texts = texts.replace({"True": 1, "False": 0, "true": 1, "false": 0, True: 1, False: 0})
        if self._form is not None and self._form.decimal == ",":
            texts = texts.map(lambda value: value.replace(",", ".") if isinstance(value, str) else value)
        made = pandas.to_numeric(texts, errors="coerce")
        bad = np.asarray(made.isna() & column.notna())
        if bad.any():
            row = int(np.argmax(bad))
            raise DataError(
                f"{self.place(first + row)}: column {name!r} holds {str(column.iloc[row])[:40]!r}, not a number: "
                "mend it, or name the columns of numbers with features="
            )
        return np.asarray(made, np.float64)

    def _target(self, column: Any, name: str, first: int) -> npt.NDArray[Any]:
        if self._numeric_target:
            return self._numbers(column, name, first)
        if column.dtype.kind in "buif":
            return np.asarray(column)
        texts = np.asarray(column.astype("object").where(column.notna(), ""), dtype=str)
        comma = self._form is not None and self._form.decimal == ","
        return np.asarray([_with_point(text) for text in texts.tolist()], dtype=str) if comma else texts

    def _groups(self, frame: Any, count: int) -> npt.NDArray[Any] | None:
        if not self._options.group:
            return None
        if not self._group:
            return np.full(count, self.path.stem)
        column = frame[self._group]
        return np.char.strip(np.asarray(column.astype("object").where(column.notna(), ""), dtype=str))

    def _times(self, column: Any, first: int) -> npt.NDArray[np.float64]:
        import pandas  # noqa: PLC0415 - an extra

        if column.dtype.kind in "buif":
            return np.asarray(column, np.float64)
        if column.dtype.kind != "M":
            text = column.astype("object")
            if self._form is not None and self._form.decimal == ",":
                text = text.map(lambda value: value.replace(",", ".") if isinstance(value, str) else value)
            numbers = pandas.to_numeric(text, errors="coerce")
            if numbers.notna().all():
                return np.asarray(numbers, np.float64)
            dates = pandas.to_datetime(column, format="ISO8601", errors="coerce", utc=True)
            if dates.isna().any():
                dates = pandas.to_datetime(column, format="mixed", dayfirst=True, errors="coerce", utc=True)
            bad = np.asarray(numbers.isna() if bool(numbers.notna().mean() > _HALF) else dates.isna())
            if bad.any():
                row = int(np.argmax(bad))
                raise DataError(
                    f"{self.place(first + row)}: column {self._options.time!r} holds {str(column.iloc[row])[:40]!r}, "
                    "neither a date nor a number: mend it"
                )
            column = dates.dt.tz_localize(None)
        return np.asarray(column.astype("datetime64[us]"), "datetime64[us]").astype(np.int64).astype(np.float64)


def table_files(path: Path, source: str) -> list[Path]:
    """Returns a table's file, or the tables in a directory and its subdirectories, in the order of their names.

    Raises:
        DataError: The directory cannot be read, or holds no table.
    """
    if not path.is_dir():
        return [path]
    suffixes = SUFFIXES[source]
    found = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in suffixes and not file.name.startswith((".", "._")) and file.is_file()
    )
    if not found:
        raise DataError(f"{path} holds no table: it needs files that end in {' or '.join(suffixes)}")
    return found


def _with_point(text: str) -> str:
    return text.replace(",", ".") if is_number(text) else text


def _numeric_columns(form: CsvFormat) -> set[str]:
    """Returns the columns whose first field that is no gap is a number."""
    found = set()
    for number, name in enumerate(form.columns):
        fields = (row[number] for row in form.rows if number < len(row) and row[number] not in _GAPS)
        if is_number(next(fields, "0")):
            found.add(name)
    return found


def _parquet_columns(path: Path) -> tuple[tuple[str, ...], set[str]]:
    try:
        import pyarrow.parquet  # noqa: PLC0415 - an extra

        schema = pyarrow.parquet.read_schema(path)
    except Exception as error:  # ArrowInvalid, OSError and others
        raise DataError(f"cannot read {path}: {error_line(error)}") from None
    types = pyarrow.types
    tests = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
    numeric = {field.name for field in schema if any(test(field.type) for test in tests)}
    return tuple(name for name in schema.names if not name.startswith("__index_level_")), numeric


def _parquet_frames(path: Path, wanted: list[str]) -> Iterator[Any]:
    try:
        import pyarrow.parquet  # noqa: PLC0415 - an extra

        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=PART_ROWS, columns=wanted):
                yield batch.to_pandas()
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"cannot read {path}: {error_line(error)}") from None
