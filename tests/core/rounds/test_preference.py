from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.core.algorithm.selection import draw_cohort
from fedlp_edge.core.rounds.preference import preference

DEPTHS = {f"d{number}": 1 for number in range(18)} | {"e0": 2, "e1": 3}


def test_preference_is_even_where_nothing_is_asked_for() -> None:
    assert preference(DEPTHS, 4) is None
    assert preference(DEPTHS, 0, prefer_deepest=4.0, min_holders=2.0) is None
    assert preference(DEPTHS, 20, prefer_deepest=4.0, min_holders=2.0) is None
    assert preference({"a": 2, "b": 2, "c": 2}, 2, min_holders=2.0) is None


def test_preference_for_the_deepest_is_a_factor() -> None:
    assert preference({"a": 1, "b": 2, "c": 2}, 1, prefer_deepest=4.0) == {"a": 1.0, "b": 4.0, "c": 4.0}


def test_preference_mends_what_even_draws_would_lack() -> None:
    # Of four devices, 0.4 would hold the second layer; for one, its two holders must outweigh 18 by a third.
    likely = preference(DEPTHS, 4, min_holders=0.8)
    assert likely is not None
    assert likely["d0"] == 1.0
    inside = likely["e0"] + likely["e1"]
    assert 4 * inside / (inside + 18) >= 0.8 - 1e-9
    assert likely["e1"] > likely["e0"]
    assert 4 * likely["e1"] / (inside + 18) == pytest.approx(0.8)


def test_cohorts_hold_every_layer_about_as_often_as_asked_for() -> None:
    likely = preference(DEPTHS, 4, min_holders=0.8)
    for chosen, least, most in ((likely, 0.6, 1.0), (None, 0.1, 0.3)):
        rounds = [draw_cohort(DEPTHS, 4, seed=3, round=round, preference=chosen) for round in range(1, 401)]
        assert least <= sum("e1" in members for members in rounds) / 400 <= most


@given(
    st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.integers(1, 8), min_size=1, max_size=30),
    st.integers(0, 40),
    st.floats(0, 50),
    st.floats(1, 100),
)
def test_preference_is_positive_and_never_prefers_the_shallower(
    depths: dict[str, int], size: int, least: float, factor: float
) -> None:
    likely = preference(depths, size, prefer_deepest=factor, min_holders=least)
    if likely is None:
        return
    assert likely.keys() == depths.keys()
    assert all(0 < value < float("inf") for value in likely.values())
    ranked = sorted(depths, key=lambda device: depths[device])
    for shallow, deep in pairwise(ranked):
        assert likely[shallow] <= likely[deep] * (1 + 1e-9)
