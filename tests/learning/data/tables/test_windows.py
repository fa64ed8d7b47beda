"""Rows and windows of tables as samples."""

from __future__ import annotations

import numpy as np
import pytest

from fedlp_edge.learning.data.readers.row_files import ArrayRows
from fedlp_edge.learning.data.tables.windows import WindowPlan, WindowReader

ROWS = np.arange(20, dtype=np.float32).reshape(10, 2)


def plan(
    starts: list[int], *, window: int = 0, horizon: int = 0, timed: bool = True, order: bool = False
) -> WindowPlan:
    count = len(starts)
    return WindowPlan(
        order=np.arange(10)[::-1].copy() if order else None,
        starts=np.array(starts),
        window=window,
        horizon=horizon,
        first=np.zeros(count, np.int64),
        last=np.full(count, 9),
        timed=timed,
    )


def test_a_window_has_a_row_for_each_feature() -> None:
    reader = WindowReader(ArrayRows(ROWS), plan([0, 4], window=3))
    assert reader.shape == (2, 3)
    assert reader.read(np.array([1])).tolist() == [[[8, 10, 12], [9, 11, 13]]]


def test_a_row_is_a_sample_in_the_order_of_time() -> None:
    reader = WindowReader(ArrayRows(ROWS), plan([0, 1], order=True))
    assert reader.read(np.array([0, 1])).tolist() == [[18, 19], [16, 17]]


@pytest.mark.parametrize(
    ("horizon", "trained", "held"),
    [
        (0, [True, True, False, False], [False, False, False, True]),
        (2, [True, False, False, False], [False] * 3 + [True]),
    ],
)
def test_the_last_part_is_held_out_and_what_lies_on_both_sides_is_dropped(
    horizon: int, trained: list[bool], held: list[bool]
) -> None:
    reader = WindowReader(ArrayRows(ROWS), plan([0, 2, 4, 5], window=3, horizon=horizon))
    found = reader.holdout(np.arange(4), 0.5)
    assert [part.tolist() for part in found] == [trained, held]


def test_rows_without_time_are_held_out_by_their_values() -> None:
    reader = WindowReader(ArrayRows(np.concatenate([ROWS[:5], ROWS[:5]])), plan(list(range(10)), timed=False))
    trained, held = reader.holdout(np.arange(10), 0.5)
    assert held[:5].tolist() == held[5:].tolist()
    assert (trained ^ held).all()
