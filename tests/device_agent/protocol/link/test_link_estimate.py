"""What follows from the rate of a link."""

from __future__ import annotations

import math

import pytest

from device_agent.protocol.link.link_estimate import (
    Improvements,
    LinkEstimate,
    MissedRounds,
    carried_rate,
    observed_rate,
)

KIB = 1024


@pytest.mark.parametrize(
    ("rate", "chunk_bytes"),
    [
        (100.0, KIB),  # the least
        (2000.0, 2 * KIB),
        (8000.0, 8 * KIB),
        (32000.0, 32 * KIB),
        (125000.0, 128 * KIB),
        (200000.0, 256 * KIB),
        (math.inf, 256 * KIB),
        (None, 64 * KIB),  # 2.5 kB/s carry it within a keep-alive of 30 seconds
    ],
)
def test_chunk_takes_a_link_two_seconds_at_most(rate: float | None, chunk_bytes: int) -> None:
    assert LinkEstimate(rate).chunk_bytes(256 * KIB) == chunk_bytes


def test_chunk_is_never_larger_than_the_broker_takes() -> None:
    assert LinkEstimate(None).chunk_bytes(500) == LinkEstimate(1.0).chunk_bytes(500) == 500


def test_window_covers_the_way_there_and_back() -> None:
    assert LinkEstimate(2000.0, 0.1).window(2 * KIB, 16) == 5
    assert LinkEstimate(1000.0, 0.1).window(64 * KIB, 16) == 2
    assert LinkEstimate(10e6, 0.6).window(256 * KIB, 16) == 16
    assert LinkEstimate().window(64 * KIB, 16) == 16


def test_what_came_says_nothing_before_there_was_time() -> None:
    assert observed_rate(1000, 1.9) is None
    assert observed_rate(0, 100.0) is None
    assert observed_rate(1000, 10.0) == 100.0


def test_second_missed_round_soon_after_the_first_says_what_the_link_is() -> None:
    shortfalls = MissedRounds()
    assert shortfalls.missed(100.0) is None
    shortfalls.done()
    assert shortfalls.missed(300.0) == 300.0
    assert shortfalls.missed(100.0) is None
    shortfalls.done()
    shortfalls.done()
    assert shortfalls.missed(100.0) is None


def test_tells_only_what_differs_by_more_than_measurements_do() -> None:
    assert LinkEstimate(1000.0).falls_short(600.0)
    assert not LinkEstimate(1000.0).falls_short(800.0)
    assert LinkEstimate(None).falls_short(800.0)


def rises(link: Improvements, planned: float | None, down: float | None, up: float | None, rounds: int) -> list[object]:
    return [link.done(planned, down, up) for _ in range(rounds)]


def test_better_rate_is_told_after_three_rounds_that_showed_twice_as_much() -> None:
    link = Improvements()
    assert [link.done(1000.0, down=2500.0, up=up) for up in (2200.0, 2000.0)] == [None, None]
    assert link.done(1000.0, down=9000.0, up=9000.0) == 2000.0


def test_rate_rises_to_four_times_what_it_was_at_the_most() -> None:
    link = Improvements()
    assert rises(link, 1000.0, 1e6, 1e6, 3) == [None, None, 4000.0]
    assert rises(link, 4000.0, 1e6, 1e6, 3) == [None, None, 16000.0]


def test_rate_stays_when_one_direction_or_one_round_is_no_better() -> None:
    link = Improvements()
    rounds = [(9000.0, 9000.0), (9000.0, 9000.0), (9000.0, 1900.0), (9000.0, 9000.0), (9000.0, None), (None, 9000.0)]
    assert [link.done(1000.0, down=down, up=up) for down, up in rounds] == [None] * 6


@pytest.mark.parametrize("planned", [None, math.inf])
def test_link_that_is_no_obstacle_has_nothing_to_rise_to(planned: float | None) -> None:
    assert rises(Improvements(), planned, 1e6, 1e6, 4) == [None] * 4


def test_link_that_has_fallen_needs_twice_as_many_rounds_to_rise() -> None:
    link = Improvements()
    link.done(1000.0, down=9000.0, up=9000.0)
    link.fell()
    assert rises(link, 1000.0, 3000.0, 3000.0, 6) == [None] * 5 + [3000.0]
    for _ in range(9):
        link.fell()
    assert rises(link, 1000.0, 3000.0, 3000.0, 48) == [None] * 47 + [3000.0]


def test_what_is_over_in_a_moment_counts_as_two_seconds() -> None:
    assert carried_rate(1000, 0.01) == 500.0
    assert carried_rate(1000, 10.0) == 100.0
    assert carried_rate(0, 10.0) is None


def test_link_of_unknown_rate_is_cut_for_by_what_it_carried() -> None:
    assert LinkEstimate().chunk_bytes(1 << 18) == 1 << 16
    assert LinkEstimate(carried=845_000.0).chunk_bytes(1 << 18) == 1 << 18
    assert LinkEstimate(carried=20_000.0).chunk_bytes(1 << 18) == 1 << 15
    assert LinkEstimate(20_000.0, carried=845_000.0).chunk_bytes(1 << 18) == 1 << 15
