from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.core.algorithm.periods import is_due, period_start, reuse_since, withheld_units

EVERY = {"L1": 3, "L2": 2}


def test_unit_is_due_at_the_end_of_its_stretch():
    assert [is_due(3, round) for round in range(1, 8)] == [False, False, True, False, False, True, False]
    assert [period_start(3, round) for round in range(1, 8)] == [1, 1, 1, 4, 4, 4, 7]


def test_units_stay_at_home_that_are_not_due():
    assert withheld_units(EVERY, ["L1", "L2", "L3"], 1) == ("L1", "L2")
    assert withheld_units(EVERY, ["L1", "L2", "L3"], 2) == ("L1",)
    assert withheld_units(EVERY, ["L1", "L2", "L3"], 6) == ()


def test_own_values_are_of_the_same_stretch():
    assert reuse_since(EVERY, ["L1", "L2", "L3"], 6) == {"L1": 4, "L2": 5}
    assert reuse_since(EVERY, ["L2", "L3"], 7) == {"L2": 7}


@given(st.integers(1, 50), st.integers(1, 10**6))
def test_stretch_has_one_due_round_and_it_is_the_last(period, round):
    first = period_start(period, round)
    assert first <= round < first + period
    assert [is_due(period, first + step) for step in range(period)] == [False] * (period - 1) + [True]
