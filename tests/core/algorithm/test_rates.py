from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fedlp_edge.core.algorithm.rates import MIN_RATE, by_importance, expected_bytes, within_budget

BYTES = {"L1": 1000, "L2": 4000, "L3": 4000, "H3": 100}
FIXED = dict.fromkeys(BYTES, 0.5)


def test_importance_sends_what_changes_much_for_its_size_more_often():
    # Bytes are 9100 * 0.5 = 4550. Importances are 4, 1, 2 and 0 per byte; H3 gets the least rate.
    rates = by_importance(FIXED, BYTES, {"L1": 4.0, "L2": 4.0, "L3": 8.0, "H3": 0.0})
    # L1 is always sent; 1000 + 4000 c + 8000 c + 10 = 4550.
    assert rates == pytest.approx({"L1": 1.0, "L2": 0.295, "L3": 0.59, "H3": MIN_RATE})


def test_importance_changes_nothing_as_long_as_nothing_is_known():
    assert by_importance(FIXED, BYTES, {}) == FIXED
    assert by_importance(FIXED, BYTES, {"L1": 0.0}) == FIXED
    assert by_importance({}, BYTES, {"L1": 1.0}) == {}


def test_importance_takes_an_unknown_unit_for_the_most_important():
    rates = by_importance({"L2": 0.5, "L3": 0.5}, BYTES, {"L2": 1.0})
    assert rates == pytest.approx({"L2": 0.5, "L3": 0.5})


def test_importance_keeps_rates_that_are_lower_than_the_least():
    rates = by_importance({"L2": 0.05, "L3": 0.05}, BYTES, {"L2": 1.0, "L3": 99.0})
    assert rates == pytest.approx({"L2": 0.05, "L3": 0.05})


units = st.lists(st.tuples(st.floats(0, 1), st.integers(1, 10**9), st.floats(0, 1e6)), min_size=1, max_size=12).map(
    lambda rows: {f"L{number}": row for number, row in enumerate(rows, start=1)}
)


@given(units)
def test_importance_leaves_the_expected_bytes_as_they_were(units):
    rates = {unit: row[0] for unit, row in units.items()}
    nbytes = {unit: row[1] for unit, row in units.items()}
    changes = {unit: row[2] for unit, row in units.items()}
    dealt = by_importance(rates, nbytes, changes)
    assert dealt.keys() == rates.keys()
    assert all(min(MIN_RATE, rates[unit]) <= rate <= 1 for unit, rate in dealt.items()) or dealt == rates
    assert expected_bytes(dealt, nbytes) == pytest.approx(expected_bytes(rates, nbytes), rel=1e-9, abs=1e-9)


@given(units, st.floats(0, 1))
def test_importance_prefers_the_more_important_of_two(units, rate):
    assume(len(units) > 1)
    rates = dict.fromkeys(units, rate)
    nbytes = {unit: row[1] for unit, row in units.items()}
    changes = {unit: row[2] for unit, row in units.items()}
    dealt = by_importance(rates, nbytes, changes)
    ranked = sorted(units, key=lambda unit: changes[unit] / nbytes[unit])
    assert all(dealt[low] <= dealt[high] for low, high in pairwise(ranked))


def test_budget_scales_all_rates_alike():
    assert within_budget({"L1": 1.0, "L2": 0.5}, BYTES, 1500) == pytest.approx({"L1": 0.5, "L2": 0.25})


def test_budget_leaves_rates_alone_that_fit():
    assert within_budget({"L1": 1.0, "L2": 0.5}, BYTES, 3000) == {"L1": 1.0, "L2": 0.5}


@given(units, st.integers(1, 10**10))
def test_budget_is_never_exceeded(units, budget):
    rates = {unit: row[0] for unit, row in units.items()}
    nbytes = {unit: row[1] for unit, row in units.items()}
    cut = within_budget(rates, nbytes, budget)
    assert expected_bytes(cut, nbytes) <= budget * (1 + 1e-9)
    assert all(0 <= cut[unit] <= rates[unit] for unit in units)
