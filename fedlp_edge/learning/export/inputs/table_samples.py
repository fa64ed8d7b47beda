"""This module cuts the samples that an exported model takes out of CSV files: rows, or windows of successive rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.pictures import display_name
from fedlp_edge.learning.data.tables.csv_format import (
    SWITCHES,
    CsvFormat,
    find_format,
    is_number,
    point_number,
    rows_of,
)
from fedlp_edge.learning.export.inference import Sample, as_input
from fedlp_edge.learning.export.metadata import OnnxMetadata

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
"""Suffixes, in lower case, of files that are read as tables."""


def takes_tables(onnx_metadata: OnnxMetadata) -> bool:
    """Tells whether a model takes rows of a table, or windows of them."""
    return bool(onnx_metadata.features) or len(onnx_metadata.input_shape) == 1


def is_table(file: Path) -> bool:
    """Tells by its name whether a file is a table."""
    return file.name.lower().endswith(SUFFIXES)


def table_samples(file: Path, onnx_metadata: OnnxMetadata) -> Iterator[Sample | DataError]:
    """Reads the samples of a table, each row or each window of rows that follows the one before.

    Args:
        file: CSV file whose first line names the columns. Of these, the ones that the model was trained with count; if
            the model does not say which, all columns of numbers do.
        onnx_metadata: Metadata of the model.

    Yields:
        Each sample, named by its file and lines, or the error why there is none.
    """
    name = display_name(file)
    try:
        if not takes_tables(onnx_metadata):
            want = "x".join(map(str, onnx_metadata.input_shape))
            raise DataError(f"{name} is a table, and the model takes {want} arrays: give it .npy files")
        form = find_format(file)
        columns = _columns(form, onnx_metadata, name)
        rows = rows_of(file, form)
        window = onnx_metadata.input_shape[1] if len(onnx_metadata.input_shape) == 2 else 1
        waiting: list[tuple[int, list[str]]] = []
        number = 0
        for number, row in enumerate(rows, 1):  # noqa: B007 - counts them
            waiting.append(row)
            if len(waiting) == window:
                yield _sample(waiting, form, columns, onnx_metadata, name)
                waiting = []
        if not number:
            yield DataError(f"{name} has no rows below the names of its columns")
        if waiting:
            yield DataError(f"{name}:{waiting[0][0]}: the last sample has {len(waiting)} of {window} rows")
    except DataError as error:
        yield error
    except OSError as error:
        yield DataError(f"cannot read {name}: {error.strerror}")


def _columns(form: CsvFormat, onnx_metadata: OnnxMetadata, name: str) -> list[tuple[int, str]]:
    """Returns position and name of each column that the model takes, in the model's order."""
    if onnx_metadata.features:
        if missing := [column for column in onnx_metadata.features if column not in form.columns]:
            raise DataError(f"{name} has no column {missing[0]!r}, which the model takes")
        return [(form.columns.index(column), column) for column in onnx_metadata.features]
    numbers = [
        (index, column)
        for index, column in enumerate(form.columns)
        if column and all(is_number(row[index]) for row in form.rows if index < len(row) and row[index])
    ]
    if len(numbers) != onnx_metadata.input_shape[0]:
        raise DataError(
            f"{name} has {len(numbers)} columns of numbers; the model takes {onnx_metadata.input_shape[0]}: leave out "
            "the others"
        )
    return numbers


def _sample(
    rows: list[tuple[int, list[str]]],
    form: CsvFormat,
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
        return Sample(of, as_input(values.reshape(onnx_metadata.input_shape), onnx_metadata, of))
    except (DataError, ValueError) as error:
        return error if isinstance(error, DataError) else DataError(f"{of}: {error}")


def _number(text: str, form: CsvFormat) -> float | None:
    text = point_number(text, form.decimal)
    if (switch := SWITCHES.get(text.lower())) is not None:
        return switch
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) <= np.finfo(np.float32).max else None
