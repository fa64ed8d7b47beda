"""This module cuts the samples that an exported model takes out of tables: rows, or windows of successive rows.

Tables are CSV and JSON files, or Parquet files where pyarrow is installed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.pictures.picture_decoding import display_name
from fedlp_edge.learning.data.tables.column_names import column_hint
from fedlp_edge.learning.data.tables.field_values import SWITCHES, is_number, point_number
from fedlp_edge.learning.data.tables.formats.csv_format import CsvFormat, find_format
from fedlp_edge.learning.data.tables.formats.csv_rows import rows_of
from fedlp_edge.learning.data.tables.formats.json_table import JsonTable
from fedlp_edge.learning.data.tables.table_folders import SUFFIXES as TABLE_SUFFIXES
from fedlp_edge.learning.export.inference import Sample, as_input
from fedlp_edge.learning.export.metadata import OnnxMetadata
from fedlp_edge.learning.foreign_code import error_line
from fedlp_edge.system.loading.install_command import install_command

SUFFIXES = tuple(suffix for some in TABLE_SUFFIXES.values() for suffix in some if not suffix.startswith(".txt"))
"""Suffixes, in lower case, of files that are read as tables."""

_WHITE = 255

_ROWS = 8192
"""Rows of a Parquet file that are in memory at a time."""

_FIRST_ROWS = 100
"""Rows of a Parquet or JSON file by which columns of numbers are told where a model names no features."""


@dataclass(frozen=True, slots=True)
class _Table:
    """A table as texts, whatever its file holds.

    Attributes:
        columns: Names of its columns.
        first: Its first rows, by which columns of numbers are told.
        decimal: Sign between the whole part of a number and the rest.
        rows: All rows, each with its number: the line of a text file, or the row of a Parquet file, from 1.
    """

    columns: Sequence[str]
    first: Sequence[Sequence[str]]
    decimal: str
    rows: Iterator[tuple[int, list[str]]]


def takes_tables(onnx_metadata: OnnxMetadata) -> bool:
    """Tells whether a model takes rows of a table, or windows of them."""
    return bool(onnx_metadata.features) or len(onnx_metadata.input_shape) == 1


def is_table(file: Path) -> bool:
    """Tells by its name whether a file is a table."""
    return file.name.lower().endswith(SUFFIXES)


def table_samples(file: Path, onnx_metadata: OnnxMetadata) -> Iterator[Sample | DataError]:
    """Reads the samples of a table, each row or each window of rows that follows the one before.

    Args:
        file: CSV, JSON or Parquet file. Of the columns, the ones that the model was trained with count; if the model
            does not say which, all columns of numbers do. The columns of a CSV file go by their numbers if those of the
            model do.
        onnx_metadata: Metadata of the model.

    Yields:
        Each sample, named by its file and lines, or the error why there is none.
    """
    name = display_name(file)
    try:
        table = _opened(file, onnx_metadata, name)
        columns = _columns(table, onnx_metadata, name)
        window = onnx_metadata.input_shape[1] if onnx_metadata.features and len(onnx_metadata.input_shape) == 2 else 1
        waiting: list[tuple[int, list[str]]] = []
        number = 0
        for number, row in enumerate(table.rows, 1):  # noqa: B007 - counts them
            waiting.append(row)
            if len(waiting) == window:
                yield _sample(waiting, table, columns, onnx_metadata, name)
                waiting = []
        if not number:
            yield DataError(f"{name} has no rows below the names of its columns")
        if waiting:
            yield DataError(f"{name}:{waiting[0][0]}: the last sample has {len(waiting)} of {window} rows")
    except DataError as error:
        yield error
    except OSError as error:
        yield DataError(f"cannot read {name}: {error.strerror}")


def _opened(file: Path, onnx_metadata: OnnxMetadata, name: str) -> _Table:
    if file.name.lower().endswith(TABLE_SUFFIXES["json"]):
        return _json(file)
    if not file.name.lower().endswith(TABLE_SUFFIXES["parquet"]):
        form = _csv_format(file, onnx_metadata.features)
        return _Table(form.columns, form.rows, form.decimal, rows_of(file, form))
    try:
        import pyarrow.parquet  # noqa: PLC0415 - an extra

        columns = list(pyarrow.parquet.read_schema(file).names)
        opened = pyarrow.parquet.ParquetFile(file)
        first = next(opened.iter_batches(batch_size=_FIRST_ROWS), None)
    except ModuleNotFoundError:
        raise DataError(f"{name}: Parquet files need pyarrow: {install_command('tables')}") from None
    except Exception as error:  # ArrowInvalid, OSError and others
        raise DataError(f"cannot read {name}: {error_line(error)}") from None
    wanted = list(onnx_metadata.features) or None
    shown = [] if first is None else _texts(first, columns)
    return _Table(columns, shown, ".", _parquet_rows(opened, columns, wanted, name))


def _csv_format(file: Path, features: Sequence[str]) -> CsvFormat:
    """Finds out how a CSV file is written, which may name no columns if the model's go by their numbers."""
    by_number = bool(features) and all(map(str.isdecimal, features))
    try:
        form = find_format(file)
        if not by_number or set(features) <= set(form.columns):
            return form
    except DataError:
        if not by_number:
            raise
    return find_format(file, named=False)


def _json(file: Path) -> _Table:
    opened = JsonTable(file)

    def rows() -> Iterator[tuple[int, list[str]]]:
        for line, record in opened.records():
            values = [record.get(name) for name in opened.columns]
            yield line, ["" if value is None or isinstance(value, list) else str(value) for value in values]

    return _Table(opened.columns, [row for _, row in itertools.islice(rows(), _FIRST_ROWS)], ".", rows())


def _parquet_rows(
    opened: Any, columns: list[str], wanted: list[str] | None, name: str
) -> Iterator[tuple[int, list[str]]]:
    number = 0
    try:
        for batch in opened.iter_batches(batch_size=_ROWS, columns=wanted):
            for row in _texts(batch, columns):
                number += 1
                yield number, row
    except Exception as error:  # a part of the file is damaged
        raise DataError(f"cannot read {name}: {error_line(error)}") from None


def _texts(batch: Any, columns: list[str]) -> list[list[str]]:
    """Returns the rows of a batch as texts, with nothing for gaps and for columns that the batch does not hold."""
    held = {name: batch.column(name).to_pylist() for name in batch.schema.names}
    values = [held.get(name, [None] * batch.num_rows) for name in columns]
    return [["" if value is None else str(value) for value in row] for row in zip(*values, strict=True)]


def _columns(form: _Table, onnx_metadata: OnnxMetadata, name: str) -> list[tuple[int, str]]:
    """Returns position and name of each column that the model takes, in the model's order."""
    if onnx_metadata.features:
        if missing := [column for column in onnx_metadata.features if column not in form.columns]:
            hint = column_hint(missing[0], form.columns)
            raise DataError(f"{name} has no column {missing[0]!r}, which the model takes{hint}")
        return [(form.columns.index(column), column) for column in onnx_metadata.features]
    numbers = [
        (index, column)
        for index, column in enumerate(form.columns)
        if column and all(is_number(row[index]) for row in form.first if index < len(row) and row[index])
    ]
    if len(numbers) != math.prod(onnx_metadata.input_shape):
        want = "x".join(map(str, onnx_metadata.input_shape))
        raise DataError(
            f"{name} has {len(numbers)} columns of numbers; the model takes {want}: leave out the others"
            + ("" if takes_tables(onnx_metadata) else ", or give it .npy files")
        )
    return numbers


def _sample(
    rows: list[tuple[int, list[str]]],
    form: _Table,
    columns: list[tuple[int, str]],
    onnx_metadata: OnnxMetadata,
    name: str,
) -> Sample | DataError:
    values = np.empty((len(columns), len(rows)), np.float32)
    for number, (line, row) in enumerate(rows):
        for place, (index, column) in enumerate(columns):
            text = row[index].strip() if index < len(row) else ""
            value = _number(text, form)
            if value is None:
                said = f"holds {text[:40]!r}, not a number" if text else "has no value"
                return DataError(f"{name}:{line}: column {column!r} {said}")
            values[place, number] = value
    lines = f"{rows[0][0]}" if len(rows) == 1 else f"{rows[0][0]}-{rows[-1][0]}"
    of = f"{name}:{lines}"
    try:
        shaped = values.reshape(onnx_metadata.input_shape)
        return Sample(of, as_input(_as_stored(shaped, onnx_metadata), onnx_metadata, of))
    except (DataError, ValueError) as error:
        return error if isinstance(error, DataError) else DataError(f"{of}: {error}")


def _as_stored(values: npt.NDArray[np.float32], onnx_metadata: OnnxMetadata) -> npt.NDArray[Any]:
    """Returns the values of a row as bytes where the model has learned of bytes, and they are such."""
    pixels = values.clip(0, _WHITE).astype(np.uint8)
    of_bytes = not onnx_metadata.features and math.isclose(onnx_metadata.scale * _WHITE, 1, rel_tol=1e-6)
    return pixels if of_bytes and np.array_equal(pixels, values) else values


def _number(text: str, form: _Table) -> float | None:
    text = point_number(text, form.decimal)
    if (switch := SWITCHES.get(text.lower())) is not None:
        return switch
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) <= np.finfo(np.float32).max else None
