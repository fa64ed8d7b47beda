"""Class numbers agreed by name."""

from __future__ import annotations

import pytest

from fedlp_edge.core.class_names import ClassNames, numbers_in


def test_settle_sorts_what_sites_have_in_part() -> None:
    names = ClassNames(3)
    assert not names.offer(["washer", "nut"])
    assert not names.offer(["bolt"]) or names.settled
    names.settle()
    assert names.names == ("bolt", "nut", "washer")


def test_offer_of_a_complete_list_settles_and_keeps_its_order() -> None:
    names = ClassNames(3)
    names.offer(["nut", "washer"])
    assert names.offer(["washer", "bolt", "nut"])
    assert names.names == ("washer", "bolt", "nut")


def test_offer_after_that_adds_what_there_is_room_for_and_moves_nothing() -> None:
    names = ClassNames(3)
    names.offer(["nut", "washer"])
    assert names.settle()
    assert names.offer(["bolt", "nut"])
    assert names.names == ("nut", "washer", "bolt")
    assert not names.offer(["screw"])
    assert names.names == ("nut", "washer", "bolt")


def test_settle_leaves_out_who_names_too_many_classes() -> None:
    names = ClassNames(3)
    names.offer(["a", "b"])
    names.offer(["b", "c", "d"])  # complete, but another list than the first site's
    names.settle()
    assert names.names == ("a", "b")


def test_numbers_alone_stay_numbers() -> None:
    names = ClassNames(3)
    names.offer([])
    assert not names.settle()
    assert not names.offer(["a", "b"])
    assert (names.names, names.settled) == ((), True)


def test_names_of_the_configuration_are_settled() -> None:
    names = ClassNames(3, ("c", "a", "b"))
    assert names.settled
    assert not names.offer(["a", "d"])
    assert names.names == ("c", "a", "b")


@pytest.mark.parametrize(("own", "numbers"), [(["nut", "washer"], [1, 2]), (["screw"], [-1]), ([], [])])
def test_numbers_in_translates_by_name(own: list[str], numbers: list[int]) -> None:
    assert numbers_in(["bolt", "nut", "washer"], own).tolist() == numbers
