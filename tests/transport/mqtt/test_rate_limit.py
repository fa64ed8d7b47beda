from __future__ import annotations

import pytest

from fedlp_edge.transport.mqtt.rate_limit import RateLimit


def test_pace_lets_a_burst_go_and_then_keeps_the_rate() -> None:
    rate_limit = RateLimit(messages=100.0, nbytes=None, now=0.0)
    now, sent = 0.0, 0
    while now < 2.0:
        wait = rate_limit.wait(now)
        if wait:
            now += wait
            continue
        rate_limit.spend(1, now)
        sent += 1

    assert 200 <= sent <= 227  # two seconds' worth, and a quarter second's saved up


def test_pace_counts_bytes_as_well() -> None:
    rate_limit = RateLimit(messages=None, nbytes=1000.0, now=0.0)
    assert rate_limit.wait(0.0) == 0
    rate_limit.spend(1250, 0.0)

    assert rate_limit.wait(0.0) == pytest.approx(1.0)
    assert rate_limit.wait(0.4) == pytest.approx(0.6)
    assert rate_limit.wait(1.5) == 0


def test_without_a_rate_nothing_ever_waits() -> None:
    rate_limit = RateLimit(messages=None, nbytes=None, now=0.0)
    rate_limit.spend(10**9, 0.0)

    assert rate_limit.wait(0.0) == 0


def test_the_slower_of_both_rates_decides() -> None:
    rate_limit = RateLimit(messages=1.0, nbytes=1000.0, now=0.0)
    rate_limit.spend(250, 0.0)  # a message is a second's worth, these bytes a quarter

    assert rate_limit.wait(0.0) == pytest.approx(0.75)


def test_an_idle_connection_saves_up_no_more_than_a_quarter_second() -> None:
    rate_limit = RateLimit(messages=4.0, nbytes=None, now=0.0)
    for _ in range(2):
        rate_limit.spend(1, 3600.0)

    assert rate_limit.wait(3600.0) == pytest.approx(0.25)
