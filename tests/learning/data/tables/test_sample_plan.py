from __future__ import annotations

import numpy as np
import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.spec.data_spec import TableOptions
from fedlp_edge.learning.data.tables.sample_plan import plan_samples
from fedlp_edge.learning.data.tables.table_rows import TableRows
from fedlp_edge.learning.data.tables.windows import WindowPlan


def rows(series: list[int], *, gaps: str = "", time: list[float] | None = None) -> TableRows:
    """Rows of some series; ``gaps`` has an x for each row with a gap."""
    names = tuple("abcdef"[: max(series) + 1])
    return TableRows(
        rows=np.zeros((len(series), 1), np.float32),  # type: ignore[arg-type]  # the plan does not look at them
        features=("v",),
        target=[],
        series=np.asarray(series),
        group=np.arange(len(names)),
        group_names=names,
        time=None if time is None else np.asarray(time),
        gaps=np.asarray([mark == "x" for mark in gaps.ljust(len(series))]),
    )


def plan(table: TableRows, **options: object) -> WindowPlan:
    made, _ = plan_samples(table, TableOptions(**options), np.ones(len(table.series), np.bool_), "csv:a")  # type: ignore[arg-type]
    return made


def test_without_windows_every_row_without_a_gap_is_a_sample() -> None:
    table = rows([0, 0, 1], gaps=" x ")
    assert plan(table).starts.tolist() == [0, 2]
    assert table.skipped.gaps == 1


def test_windows_stay_in_their_series_and_clear_of_gaps() -> None:
    table = rows([0, 0, 0, 0, 1, 1, 1, 2], gaps="x")
    found = plan(table, window=2)

    assert found.starts.tolist() == [1, 2, 4, 5]
    assert (found.first.tolist(), found.last.tolist()) == ([0, 0, 4, 4], [3, 3, 6, 6])
    assert (table.skipped.windows, table.skipped.short) == (1, 1)


def test_stride_and_horizon_leave_room() -> None:
    assert plan(rows([0] * 8), window=2, stride=3, horizon=1).starts.tolist() == [0, 3]


def test_rows_follow_each_other_in_time() -> None:
    table = rows([0, 0, 0, 0, 0, 0], time=[3.0, 2.0, 2.0, 1.0, 402.0, float("nan")])
    made, order = plan_samples(table, TableOptions(window=2, time="t"), np.ones(6, np.bool_), "csv:a")

    assert order.tolist() == [3, 1, 2, 0, 4, 5]
    assert made.starts.tolist() == [0, 1, 2, 3]
    assert (table.skipped.untimed, table.skipped.repeated) == (1, 1)
    assert table.skipped.pauses == (1, 399.0)


def test_only_some_groups() -> None:
    assert plan(rows([0, 1, 1]), group="who", only=("b",)).starts.tolist() == [1, 2]
    with pytest.raises(DataError, match="csv:a: column 'who' has no value 'z'; its values are a, b"):
        plan(rows([0, 1, 1]), group="who", only=("z",))


def test_says_why_no_sample_is_left() -> None:
    with pytest.raises(DataError, match="csv:a: no series has the 4 successive rows that a sample needs"):
        plan(rows([0, 0, 1, 1]), window=3, horizon=1)
    with pytest.raises(DataError, match="csv:a: no sample is left; no row has a value of every feature: name some"):
        plan(rows([0, 0], gaps="xx"))
