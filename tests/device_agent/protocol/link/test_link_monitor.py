"""The one estimate of a link: what is measured, what rounds show, and what the coordinator is told of it."""

from __future__ import annotations

import math

import msgspec
import pytest

from device_agent.protocol.events import Effects, Log, SendProbe
from device_agent.protocol.link.link_estimate import LinkEstimate, LinkState
from device_agent.protocol.link.link_monitor import LinkMonitor
from tests.device_agent.support import BROKER_LIMITS, FACTS, ME, numbered, only

UNMEASURED = msgspec.structs.replace(FACTS, link_bytes_per_second=None)


class Reported(list[float]):
    """The rates that were to be told to the coordinator, in order."""

    def __call__(self, rate: float) -> Effects:
        self.append(rate)
        return []


def monitor(state: LinkState, reported: Reported, *, stated: float | None = None) -> LinkMonitor:
    """A monitor that measures nothing, of a device whose owner may have stated a rate."""
    made = LinkMonitor(ME, numbered(), state, reported, measure=False, use_echoes=False)
    made.with_rate(msgspec.structs.replace(FACTS, link_bytes_per_second=stated))
    return made


def test_stated_rate_is_the_estimate_where_nothing_is_measured() -> None:
    state = LinkState()
    link = monitor(state, Reported(), stated=5000.0)

    assert link.measured
    assert state.estimate == LinkEstimate(5000.0)
    assert link.with_rate(UNMEASURED).link_bytes_per_second is None
    assert state.estimate == LinkEstimate(None)


def test_measured_link_without_a_rate_is_infinitely_fast_for_this_device_and_unknown_to_the_coordinator() -> None:
    state = LinkState()
    link = LinkMonitor(ME, numbered(), state, Reported())
    effects = [*link.measure(BROKER_LIMITS, 0.0), *link.subscribed(link.topic, 0.0)]
    while not link.measured:  # everything comes back at once
        probes = [effect for effect in effects if isinstance(effect, SendProbe)]
        effects = [following for probe in probes for following in link.echo(probe.payload, 0.0)]

    assert link.with_rate(UNMEASURED).link_bytes_per_second is None
    assert state.estimate.rate == math.inf


def test_echo_that_is_refused_ends_the_measurement_and_leaves_silence_to_tell_what_is_lost() -> None:
    state = LinkState()
    link = LinkMonitor(ME, numbered(), state, Reported())
    link.measure(BROKER_LIMITS, 0.0)
    assert not link.nothing_before(0.0, 1.0)

    assert "not allowed" in only(link.refused("not allowed"), Log).text
    assert link.measured
    assert link.nothing_before(0.0, 1.0)
    assert link.next_wakeup() is None


def test_second_missed_round_lowers_the_rate_of_everybody_who_shares_the_state() -> None:
    state, reported = LinkState(), Reported()
    link = monitor(state, reported, stated=1000.0)

    state.missed(400.0)
    assert link.missed_rounds() == []
    state.missed(600.0)
    state.missed(300.0)  # of the same round, down and up: the slower direction counts
    state.missed(None)
    assert "carried 400 B/s" in only(link.missed_rounds(), Log).text

    assert reported == [400.0]
    assert state.estimate == LinkEstimate(400.0)
    assert state.missed_rates == []


def test_rate_that_is_nearly_what_was_thought_is_no_news() -> None:
    state, reported = LinkState(), Reported()
    link = monitor(state, reported, stated=1000.0)

    for _ in range(2):
        state.missed(800.0)
        assert link.missed_rounds() == []

    assert reported == []


@pytest.mark.parametrize(("stated", "told"), [(1000.0, []), (None, [4000.0])])
def test_better_rounds_raise_a_rate_that_was_measured_and_never_one_that_was_stated(
    stated: float | None, told: list[float]
) -> None:
    state, reported = LinkState(), Reported()
    link = monitor(state, reported, stated=stated)
    state.estimate = LinkEstimate(1000.0)

    for _ in range(3):
        state.carried_down, state.carried_up = 8000.0, 9000.0
        link.done_in_time()
        link.done_in_time()  # the receipt came twice

    assert reported == told


def test_what_a_link_of_unknown_rate_carried_cuts_the_next_update_and_plans_nothing() -> None:
    state, reported = LinkState(), Reported()
    link = monitor(state, reported)
    state.carried_up = 2000.0

    assert "messages of 2.0 kB" in only(link.done_in_time(), Log).text
    assert state.estimate == LinkEstimate(None, carried=2000.0)
    assert reported == []
    state.carried_up = 2000.0
    assert link.done_in_time() == []
