"""The clock of deadlines, which stands still without a broker."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from coordinator.broker_clock import AwakeClock, BrokerClock

TIMES = st.floats(0.0, 1e7)


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_leaves_out_the_time_in_which_its_process_was_held() -> None:
    time = Time()
    clock = AwakeClock(time)
    time.now = 109.0
    assert clock() == 109.0
    time.now = 1109.0
    assert clock() == 119.0
    time.now = 1110.0
    assert clock() == 120.0


def test_stands_still_without_a_broker_and_for_the_grace_after_it() -> None:
    time = Time()
    clock = BrokerClock(time, grace_seconds=20.0)
    assert (clock.now(), clock.when(150.0)) == (100.0, 150.0)
    time.now = 110.0
    clock.stop()
    time.now = 5000.0
    clock.stop()
    assert (clock.now(), clock.when(150.0)) == (110.0, math.inf)
    clock.go()
    clock.go()
    assert clock.now() == 110.0
    time.now = 5019.0
    assert clock.now() == 110.0
    time.now = 5030.0
    assert clock.now() == 120.0


def test_a_broker_that_comes_and_goes_never_turns_it_back() -> None:
    time = Time()
    clock = BrokerClock(time, grace_seconds=20.0)
    shown = []
    for _ in range(5):
        clock.stop()
        time.now += 3.0
        clock.go()
        time.now += 3.0
        shown.append(clock.now())
    assert shown == [100.0] * 5


@given(since=TIMES, away=TIMES, due=TIMES)
def test_shows_a_time_when_it_says_that_it_does(since: float, away: float, due: float) -> None:
    time = Time()
    time.now = since
    clock = BrokerClock(time, grace_seconds=20.0)
    clock.stop()
    time.now += away
    clock.go()
    time.now = clock.when(since + due)
    assert clock.now() >= since + due
