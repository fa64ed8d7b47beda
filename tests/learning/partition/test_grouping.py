"""Joining pieces into even layers."""

from __future__ import annotations

from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.learning.partition.grouping import balanced_weights, group


def test_joins_light_pieces_and_leaves_heavy_ones_alone() -> None:
    assert group([1, 1, 1, 9, 1, 1], 3) == [range(3), range(3, 4), range(4, 6)]


def test_keeps_pieces_apart_that_are_few_enough() -> None:
    assert group([5, 0, 5], 3) == [range(1), range(1, 2), range(2, 3)]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=7), st.integers(1, 7))
def test_finds_the_most_even_split(weights: list[int], most: int) -> None:
    groups = group(weights, most)
    assert [i for run in groups for i in run] == list(range(len(weights)))
    assert len(groups) == min(most, len(weights))
    assert all(len(run) for run in groups)

    def cost(cuts: tuple[int, ...]) -> int:
        ends = [0, *cuts, len(weights)]
        return sum(sum(weights[a:b]) ** 2 for a, b in pairwise(ends))

    found = cost(tuple(run.start for run in groups[1:]))
    assert found == min(cost(cuts) for cuts in combinations(range(1, len(weights)), len(groups) - 1))


def test_weighs_by_shares_of_both_costs() -> None:
    assert balanced_weights([1, 3], [10, 10]) == [1 * 20 + 10 * 4, 3 * 20 + 10 * 4]
    assert balanced_weights([0, 0], [0, 0]) == [0, 0]
