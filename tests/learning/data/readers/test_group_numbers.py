"""Tests of the numbers of groups."""

from __future__ import annotations

from fedlp_edge.learning.data.readers.group_numbers import numbered_groups


def test_groups_are_numbered_by_name_and_whole_numbers_by_value() -> None:
    numbers, names = numbered_groups(["10", "anna", "9", "10", ""])
    assert names == ("9", "10", "", "anna")
    assert numbers.tolist() == [1, 3, 0, 1, 2]


def test_no_groups_have_no_names() -> None:
    numbers, names = numbered_groups([])
    assert (numbers.tolist(), names) == ([], ())
