"""Files of tables by their source."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from fedlp_edge.learning.data.spec.data_spec import TableOptions
from fedlp_edge.learning.data.tables.formats.opening import open_table


@pytest.mark.parametrize("source", ["csv", "json", "parquet"])
def test_one_table_in_any_format_has_the_same_columns_and_rows(tmp_path: Path, source: str) -> None:
    path = tmp_path / f"t.{source}"
    if source == "csv":
        path.write_text("a,word\n1,x\n2,y\n")
    elif source == "json":
        path.write_text('[{"a": 1, "word": "x"}, {"a": 2, "word": "y"}]')
    else:
        pa.parquet.write_table(pa.table({"a": [1, 2], "word": ["x", "y"]}), path)
    table = open_table(path, source, TableOptions())
    assert (table.columns, table.numbers, table.nested, table.has_rows) == (("a", "word"), {"a"}, frozenset(), True)
    (frame,) = table.frames(["word", "a"], frozenset({"word"}), frozenset())
    assert (frame["a"].tolist(), frame["word"].tolist()) == ([1, 2], ["x", "y"])
    assert table.place(1) in (f"{path}:3", f"{path}: row 1")
