from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.spec.parsing import parse_spec
from fedlp_edge.learning.data.tables.table_rows import TableRows, read_rows


def read(tmp_path: Path, options: str, **files: str) -> TableRows:
    for name, text in files.items():
        (tmp_path / f"{name}.csv").write_text(text)
    return read_rows(parse_spec(f"csv:{tmp_path}#{options}"), None)


def test_rows_of_all_files_stand_one_behind_the_other(tmp_path: Path) -> None:
    table = read(tmp_path, "target=y&time=t", a="t,v,y\n2,1.5,0\n1,,1\n", b="t,v,y\n3,2.5,0\n")

    assert table.features == ("v",)
    assert np.asarray(table.rows.take(np.arange(3))).tolist()[::2] == [[1.5], [2.5]]
    assert table.gaps.tolist() == [False, True, False]
    assert [values.tolist() for values in table.target] == [["0", "1", "0"]]
    assert table.time is not None
    assert table.time.tolist() == [2.0, 1.0, 3.0]
    assert table.series.tolist() == [0, 0, 1]
    assert table.skipped.first_gap == f"{tmp_path / 'a.csv'}:3, column 'v'"


def test_a_series_is_of_one_group_in_one_file_and_groups_are_numbered_by_name(tmp_path: Path) -> None:
    table = read(tmp_path, "target=y&group=who", a="who,v,y\nzoe,1,0\nann,2,1\nzoe,3,0\n", b="who,v,y\nann,4,1\n")

    assert table.group_names == ("ann", "zoe")
    assert table.group[table.series].tolist() == [1, 0, 1, 0]
    assert len(set(table.series.tolist())) == 3


def test_a_class_that_is_being_written_is_none(tmp_path: Path) -> None:
    table = read(tmp_path, "target=y", a="v,y\n1,good\n2,bad\n3,go")
    assert table.target[0].tolist() == ["good", "bad", ""]


def test_files_with_other_columns_of_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"b\.csv: its columns of numbers are not those of .*a\.csv, see 'v': mend it"):
        read(tmp_path, "target=y", a="v,y\n1,0\n", b="w,y\n1,0\n")


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no rows"):
        read(tmp_path, "target=y&features=v", a="v,y\n")
