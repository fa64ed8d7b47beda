"""This module reads the columns of a Parquet file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.tables.formats.table_reader import PART_ROWS, TableReader
from fedlp_edge.learning.data.tables.formats.text_file import is_text
from fedlp_edge.learning.foreign_code import error_line


class ParquetTable(TableReader):
    """Reads a Parquet file; an index of pandas is none of its columns.

    Args:
        path: The file.

    Raises:
        DataError: The file cannot be read, or two columns have one name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            import pyarrow.parquet  # noqa: PLC0415 - an extra

            schema = pyarrow.parquet.read_schema(path)
        except Exception as error:  # ArrowInvalid, OSError and others
            if "magic bytes" in str(error):
                other = "; for a CSV file write csv:FILE" if is_text(path) else ""
                raise DataError(f"{path} is no Parquet file, or it is cut short{other}") from None
            raise DataError(f"cannot read {path}: {error_line(error)}") from None
        if len(set(schema.names)) < len(schema.names):
            twice = next(name for name in schema.names if schema.names.count(name) > 1)
            raise DataError(f"{path}: two columns are both called {twice!r}: rename one")
        types = pyarrow.types
        tests = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
        self.columns = tuple(name for name in schema.names if not name.startswith("__index_level_"))
        self.numbers = {field.name for field in schema if any(test(field.type) for test in tests)}
        self.nested = {field.name for field in schema if types.is_nested(field.type)}
        self.times = {field.name for field in schema if types.is_temporal(field.type)}

    def frames(self, wanted: Sequence[str], texts: Set[str], times: Set[str]) -> Iterator[Any]:  # noqa: ARG002 - typed
        """Yields some columns as data frames, with the types of the file.

        Raises:
            DataError: The file cannot be read.
        """
        try:
            import pyarrow.parquet  # noqa: PLC0415 - an extra

            with pyarrow.parquet.ParquetFile(self.path) as file:
                for batch in file.iter_batches(batch_size=PART_ROWS, columns=list(wanted)):
                    # A pandas index stays a column.
                    yield batch.to_pandas(ignore_metadata=True)
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"cannot read {self.path}: {error_line(error)}") from None

    def place(self, row: int) -> str:
        """Returns file and number of a row, from 0."""
        return f"{self.path}: row {row}"
