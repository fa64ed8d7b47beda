"""This module reads names, kinds and rows of the columns of a Parquet file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.tables.csv_format import is_text
from fedlp_edge.learning.foreign_code import error_line


@dataclass(frozen=True, slots=True)
class ParquetColumns:
    """Names the columns of a Parquet file by what they hold.

    Attributes:
        names: Names of all columns but a pandas index.
        numbers: Names of those that hold numbers.
        nested: Names of those of lists or records.
        times: Names of those of points in time, dates, clock times or durations.
    """

    names: tuple[str, ...]
    numbers: frozenset[str]
    nested: frozenset[str]
    times: tuple[str, ...]


def parquet_columns(path: Path) -> ParquetColumns:
    """Reads which columns a file has.

    Raises:
        DataError: The file cannot be read, or two columns have one name.
    """
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
    return ParquetColumns(
        names=tuple(name for name in schema.names if not name.startswith("__index_level_")),
        numbers=frozenset(field.name for field in schema if any(test(field.type) for test in tests)),
        nested=frozenset(field.name for field in schema if types.is_nested(field.type)),
        times=tuple(field.name for field in schema if types.is_temporal(field.type)),
    )


def _are_alike(names: Sequence[str]) -> bool:
    return len(set(names)) < len(names)


def parquet_frames(path: Path, wanted: list[str], rows: int) -> Iterator[Any]:
    """Yields the wanted columns as data frames of so many rows at most.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        import pyarrow.parquet  # noqa: PLC0415 - an extra

        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=rows, columns=wanted):
                # A pandas index stays a column.
                yield batch.to_pandas(ignore_metadata=True)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"cannot read {path}: {error_line(error)}") from None
