from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.core.algorithm.recycling import choose_recycled, recycled_deltas


def array(*values: float):
    return np.array(values, dtype=np.float32)


def test_choose_draws_what_changes_little_more_often():
    # With one of two, the odds are those of 1 / s: 3 to 1.
    drawn = Counter(
        unit for round in range(4000) for unit in choose_recycled({"L1": 1.0, "L2": 3.0}, 1, seed=1, round=round)
    )
    assert 0.72 < drawn["L1"] / 4000 < 0.78


def test_choose_draws_another_set_in_another_round():
    changes = dict.fromkeys(("L1", "L2", "L3", "L4"), 1.0)
    assert len({choose_recycled(changes, 2, seed=1, round=round) for round in range(50)}) == 6


def test_choose_draws_nothing_without_a_history():
    assert choose_recycled({}, 3, seed=1, round=1) == frozenset()
    assert choose_recycled({"L1": 1.0}, 3, seed=1, round=1) == frozenset()


@given(st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1e9), max_size=6), st.integers(0, 8), st.integers(1, 99))
def test_choose_leaves_at_least_one_unit_to_be_sent(changes, count, round):
    chosen = choose_recycled(changes, count, seed=1, round=round)
    assert chosen <= changes.keys()
    assert len(chosen) == max(0, min(count, len(changes) - 1))


def test_repeated_weakens_what_there_is():
    again = recycled_deltas({"a": array(2.0, -4.0), "b": array(1.0)}, ["a", "c"], 0.5)
    assert {name: value.tolist() for name, value in again.items()} == {"a": [1.0, -2.0]}
