"""Class numbers agreed by name."""

from __future__ import annotations

from itertools import permutations

import pytest

from fedlp_edge.core.class_names import ClassNames, numbers_in


def settled(classes: int, *offers: tuple[str, list[str], int | None]) -> ClassNames:
    names = ClassNames(classes)
    for site, own, samples in offers:
        assert not names.offer(site, own, samples)
    names.settle()
    return names


def test_settle_sorts_what_sites_have_in_part() -> None:
    assert settled(3, ("a", ["washer", "nut"], 5), ("b", ["bolt"], 9)).names == ("bolt", "nut", "washer")


def test_settle_keeps_the_order_of_a_complete_list() -> None:
    names = settled(3, ("test", ["nut", "washer"], 99), ("a", ["washer", "bolt", "nut"], 5))
    assert names.names == ("washer", "bolt", "nut")


def test_settle_gives_more_samples_the_word_whatever_the_order_of_the_offers() -> None:
    offers = [("test", ["nut", "washer"], 99), ("a", ["bolt", "nut", "washer"], 50), ("c", ["nut", "screw"], 3)]
    for order in permutations(offers):
        assert settled(3, *order).names == ("bolt", "nut", "washer")


def test_settle_lets_no_site_decide_by_what_it_says_of_its_samples() -> None:
    honest = [("a", ["bolt", "nut"], 90), ("b", ["nut", "bolt"], 110)]
    assert settled(2, *honest, ("liar", ["cat", "dog"], 2**53)).names == ("nut", "bolt")
    assert settled(2, *honest, ("liar", ["cat", "dog"], 100)).names == ("nut", "bolt")


def test_settle_puts_the_coordinators_names_first() -> None:
    assert settled(2, ("a", ["bolt", "nut"], 2**53), ("", ["nut", "gear"], None)).names == ("nut", "gear")


def test_offer_after_that_adds_what_there_is_room_for_and_moves_nothing() -> None:
    names = settled(3, ("a", ["nut", "washer"], 1))
    assert names.offer("b", ["bolt", "nut"])
    assert names.names == ("nut", "washer", "bolt")
    assert not names.offer("c", ["screw"])
    assert names.names == ("nut", "washer", "bolt")


def test_numbers_alone_stay_numbers() -> None:
    names = settled(3, ("a", [], 1))
    assert not names.offered
    assert not names.offer("b", ["a", "b"])
    assert (names.names, names.settled) == ((), True)


def test_names_of_the_configuration_are_settled() -> None:
    names = ClassNames(3, ("c", "a", "b"))
    assert names.settled
    assert not names.offer("a", ["a", "d"])
    assert names.names == ("c", "a", "b")


@pytest.mark.parametrize(("own", "numbers"), [(["nut", "washer"], [1, 2]), (["screw"], [-1]), ([], [])])
def test_numbers_in_translates_by_name(own: list[str], numbers: list[int]) -> None:
    assert numbers_in(["bolt", "nut", "washer"], own).tolist() == numbers
