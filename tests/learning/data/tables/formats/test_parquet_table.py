"""Columns and rows of Parquet files."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.dataset import load_data
from fedlp_edge.learning.data.spec.parsing import parse_spec
from fedlp_edge.learning.data.tables.formats import parquet_table
from fedlp_edge.learning.data.tables.formats.parquet_table import ParquetTable


def test_columns_are_numbers_nested_or_text_and_rows_come_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.parquet"
    pa.parquet.write_table(pa.table({"a": [1, 2, 3], "b": ["x", "y", "z"], "c": [[1], [2], [3]]}), path)
    found = ParquetTable(path)
    assert (found.columns, found.numbers) == (("a", "b", "c"), {"a"})
    assert found.nested == {"c"}
    monkeypatch.setattr(parquet_table, "PART_ROWS", 2)
    assert [frame["a"].tolist() for frame in found.frames(["a"], frozenset(), frozenset())] == [[1, 2], [3]]


def test_times_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    at = datetime(2024, 5, 1, tzinfo=UTC)
    pa.parquet.write_table(pa.table({"at": [at], "day": [at.date()], "took": [timedelta(seconds=2)], "a": [1]}), path)
    assert ParquetTable(path).times == {"at", "day", "took"}
    data = load_data(parse_spec(f"parquet:{path}").whole())
    assert data.features == ("a",)
    assert (
        data.remarks
        == "left out: 3 columns of times (at; day; took), which order rows as time= and are seconds as features="
    )


def test_what_is_no_parquet_file_is_refused_with_what_to_write(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"is no Parquet file, or it is cut short; for a CSV file write csv:FILE"):
        ParquetTable(path)
