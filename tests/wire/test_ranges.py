from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.wire.ranges import clip, expand, ranges_of

numbers = st.sets(st.integers(0, 200))
hostile_ranges = st.lists(st.tuples(st.integers(0, 2**53), st.integers(0, 2**53)))


def test_ranges_of_merges_neighbours() -> None:
    assert ranges_of({5, 1, 2, 7, 6}) == ((1, 3), (5, 8))
    assert ranges_of([]) == ()


def test_clip_sorts_merges_and_cuts_at_the_count() -> None:
    assert clip([(8, 2**53), (1, 3), (2, 5), (6, 6), (7, 2)], count=10) == ((1, 5), (8, 10))


def test_expand_names_each_number_once_and_none_that_does_not_exist() -> None:
    assert list(expand([(0, 3), (1, 4), (9, 12)], count=10)) == [0, 1, 2, 3, 9]


@given(numbers)
def test_expand_inverts_ranges_of(members: set[int]) -> None:
    assert set(expand(ranges_of(members), count=201)) == members


@given(hostile_ranges, st.integers(0, 50))
def test_expand_is_bounded_by_the_count_whatever_it_is_given(ranges: list[tuple[int, int]], count: int) -> None:
    found = list(expand(ranges, count))

    assert found == sorted(n for n in range(count) if any(start <= n < stop for start, stop in ranges))
    assert len(clip(ranges, count)) <= (count + 1) // 2
