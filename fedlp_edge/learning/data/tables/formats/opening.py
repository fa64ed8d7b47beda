"""This module opens a file of a table by its source."""

from __future__ import annotations

from pathlib import Path

from fedlp_edge.learning.data.spec.data_spec import TableOptions
from fedlp_edge.learning.data.tables.formats.csv_table import CsvTable
from fedlp_edge.learning.data.tables.formats.json_table import JsonTable
from fedlp_edge.learning.data.tables.formats.parquet_table import ParquetTable
from fedlp_edge.learning.data.tables.formats.table_reader import TableReader


def open_table(path: Path, source: str, options: TableOptions) -> TableReader:
    """Opens a file and finds its columns.

    Args:
        path: The file.
        source: ``csv``, ``json`` or ``parquet``.
        options: What is known of the file: encoding, whether it names its columns, and words that stand for gaps.

    Raises:
        DataError: The file cannot be read, or is of another kind.
    """
    if source == "csv":
        return CsvTable(path, options.encoding, options.missing_words, named=options.header)
    return JsonTable(path, options.missing_words) if source == "json" else ParquetTable(path)
