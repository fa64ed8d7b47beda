from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlp_edge.simulation.experiment import FleetSettings
from fedlp_edge.simulation.virtual_time import Timeline, drops_out, is_available


def test_delivers_in_order_of_time_and_stops_at_a_deadline() -> None:
    timeline = Timeline()
    timeline.expect("slow", 5.0)
    timeline.expect("quick", 1.0)
    assert (timeline.advance(3.0), timeline.now) == ("quick", 1.0)
    assert (timeline.advance(3.0), timeline.now) == (None, 3.0)
    assert (timeline.advance(None), timeline.now) == ("slow", 5.0)
    with pytest.raises(ValueError, match=r"^nothing is to come$"):
        timeline.advance(None)


def test_delivers_only_what_was_expected_last() -> None:
    timeline = Timeline()
    timeline.expect("a", 1.0)
    timeline.expect("a", 4.0)
    timeline.expect("b", 2.0)
    timeline.cancel("b")
    assert (timeline.advance(None), timeline.now) == ("a", 4.0)
    assert not timeline.is_expected("a")


def test_forgets_what_is_under_way_but_not_the_time() -> None:
    timeline = Timeline()
    timeline.expect("a", 1.0)
    assert timeline.advance(None) == "a"
    timeline.expect("b", 1.0)
    timeline.forget()
    assert not timeline.is_expected("b")
    assert (timeline.advance(4.0), timeline.now) == (None, 4.0)
    assert (timeline.advance(2.0), timeline.now) == (None, 4.0)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 9)), min_size=1, max_size=8))
def test_each_device_delivers_once_and_time_never_goes_back(expected: list[tuple[str, int]]) -> None:
    timeline, last = Timeline(), dict(expected)
    for device, seconds in expected:
        timeline.expect(device, seconds)
    delivered = {}
    for _ in last:
        device = timeline.advance(None)
        assert device is not None
        delivered[device] = timeline.now
    assert delivered == last
    assert list(delivered.values()) == sorted(delivered.values())


def test_draws_devices_with_the_probabilities_of_the_fleet() -> None:
    often = FleetSettings(availability=0.75, dropout=0.25)
    there = sum(is_available(often, 1, round, "a") for round in range(1000))
    dropped = sum(drops_out(often, 1, round, "a", 0) for round in range(1000))
    assert 700 < there < 800
    assert 200 < dropped < 300
    always = FleetSettings(availability=1.0, dropout=0.0)
    assert all(is_available(always, 1, round, "a") and not drops_out(always, 1, round, "a", 0) for round in range(100))


def test_draws_anew_for_every_attempt_and_alike_for_the_same_one() -> None:
    settings = FleetSettings(availability=0.5, dropout=0.5)
    drawn = [(is_available(settings, 7, 1, "a", n), drops_out(settings, 7, 1, "a", n)) for n in range(40)]
    assert len(set(drawn)) == 4
    assert drawn == [(is_available(settings, 7, 1, "a", n), drops_out(settings, 7, 1, "a", n)) for n in range(40)]
