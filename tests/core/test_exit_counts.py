from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.core.exit_counts import ExitCounts, finite_mean, merged

FIRST = ExitCounts((2, 2), {1: (1, 0), 2: (2, 1)}, {1: 4.0, 2: 2.0}, {1: 1, 2: 3}, {1: 4.0, 2: 1.0})
SECOND = ExitCounts((0, 4), {1: (0, 3), 2: (0, 4)}, {1: 2.0, 2: 1.0}, {1: 3, 2: 4}, {1: 2.0, 2: 0.5})


def test_divides_by_the_samples_of_all_classes() -> None:
    assert FIRST.total == 4
    assert FIRST.accuracy() == {1: 0.25, 2: 0.75}
    assert FIRST.ensemble_accuracy() == {1: 0.25, 2: 0.75}
    assert FIRST.mean_loss() == {1: 1.0, 2: 0.5}
    assert FIRST.mean_ensemble_loss() == {1: 1.0, 2: 0.25}


def test_mean_that_is_no_finite_number_is_none() -> None:
    sums = {1: float("nan"), 2: float("inf"), 3: -6.0}

    assert finite_mean(sums, 3) == {1: None, 2: None, 3: -2.0}


def test_adds_up_the_parts_of_a_data_set() -> None:
    assert merged([FIRST, SECOND]) == ExitCounts(
        (2, 6), {1: (1, 3), 2: (2, 5)}, {1: 6.0, 2: 3.0}, {1: 4, 2: 7}, {1: 6.0, 2: 1.5}
    )
    assert merged([FIRST]) == FIRST


def test_parts_of_different_classes_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="shorter"):
        merged([FIRST, ExitCounts((1,), {1: (1,), 2: (1,)}, {1: 0.0, 2: 0.0}, {1: 1, 2: 1}, {1: 0.0, 2: 0.0})])


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=5))
def test_no_sample_is_lost_in_adding_up(sizes: list[tuple[int, int]]) -> None:
    parts = [ExitCounts(size, {1: size}, {1: 0.0}, {1: sum(size)}, {1: 0.0}) for size in sizes]

    whole = merged(parts)

    assert whole.total == sum(map(sum, sizes))
    assert whole.correct[1] == whole.samples
