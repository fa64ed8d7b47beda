"""The wanted columns of a table's files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from fedlp_edge.core.targets import TargetKind
from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.spec.data_spec import TableOptions
from fedlp_edge.learning.data.tables.table_files import TableFile, TablePart

TABLE = "time,machine,speed,heat,state\n2,a,1.5,20,ok\n1,a,,21,ok\n3,b,2.5,22,worn\n"


def opened(path: Path, text: str = TABLE, kind: TargetKind | None = "class", **options: object) -> TableFile:
    path.write_text(text)
    return TableFile(path, "csv", TableOptions(**{"target": ("state",)} | options), kind)  # type: ignore[arg-type]


def whole(table: TableFile, *features: str) -> TablePart:
    (part,) = table.parts(features)
    return part


def test_columns_without_a_role_are_numbers_or_text(tmp_path: Path) -> None:
    table = opened(tmp_path / "t.csv", time=("time",), group="machine")
    assert table.reader.columns == ("time", "machine", "speed", "heat", "state")
    assert (table.numbers, table.text) == (("speed", "heat"), ())
    assert opened(tmp_path / "u.csv").text == ("machine",)


def test_rows_have_features_target_group_and_time(tmp_path: Path) -> None:
    part = whole(opened(tmp_path / "t.csv", time=("time",), group="machine"), "heat", "speed")
    assert part.features.dtype == np.float32
    assert part.features[:, 0].tolist() == [20.0, 21.0, 22.0]
    assert np.isnan(part.features[1, 1])  # a gap
    assert part.target[0].tolist() == ["ok", "ok", "worn"]
    assert part.group is not None
    assert part.group.tolist() == ["a", "a", "b"]
    assert part.time is not None
    assert part.time.tolist() == [2.0, 1.0, 3.0]


def test_name_of_the_file_may_be_the_group(tmp_path: Path) -> None:
    part = whole(opened(tmp_path / "machine-7.csv", group="file"), "heat")
    assert part.group is not None
    assert part.group.tolist() == ["machine-7"] * 3
    assert whole(opened(tmp_path / "t.csv"), "heat").group is None


def test_dates_are_ordered_like_times(tmp_path: Path) -> None:
    text = "when,x,y\n2024-01-02,1,a\n2024-01-01T12:00:00,2,a\n"
    part = whole(opened(tmp_path / "t.csv", text, target=("y",), time=("when",)), "x")
    assert part.time is not None
    assert part.time[0] - part.time[1] == 12 * 3600 * 1e6  # microseconds


@pytest.mark.parametrize("times", [(1.7e9, 1.7e9), (1.7e15, 1.8e15), (5, 1.7e9, 1.7e12), (1.7e9, 1e11, 1.7e12)])
def test_numbers_that_are_dates_in_one_unit_or_none_are_times(tmp_path: Path, times: tuple[float, ...]) -> None:
    text = "t,x,y\n" + "".join(f"{time:.0f},1,a\n" for time in times)
    part = whole(opened(tmp_path / "t.csv", text, target=("y",), time=("t",)), "x")
    assert part.time is not None
    assert part.time.tolist() == list(times)


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        (TABLE, {"target": ("stat",)}, ":1: there is no column 'stat': is it 'state'?; its columns are time, machine"),
        (TABLE, {"group": "zone"}, ":1: there is no column 'zone'"),
        ("x,y\n1,a\n2,b,3\n", {"target": ("y",)}, ":3: 3 fields, but the header names 2 columns: mend the line"),
        ("x,y\n1,a\nlow,b\n", {"target": ("y",)}, ":3: column 'x' holds 'low', not a number: mend it"),
        (
            "t,x,y\n1,1,a\nsoon,2,a\n2,3,a\n",
            {"target": ("y",), "time": ("t",)},
            ":3: column 't' holds 'soon', neither a date nor a number: write it as 2024-01-31 14:00:00",
        ),
        (
            "t,x,y\n1700000000,1,a\n1700000060000,2,a\n1700000120,3,a\n",
            {"target": ("y",), "time": ("t",)},
            ":3: column 't' holds 1700000060000, a time in milliseconds since 1970, and others in seconds: write all",
        ),
    ],
)
def test_fault_is_named_with_file_and_line(tmp_path: Path, text: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / 't.csv'}{words}")):
        whole(opened(tmp_path / "t.csv", text, **options), "x" if "x" in text else "heat")
