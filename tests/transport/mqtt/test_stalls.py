"""When connections count as stalled behind long packets, and how short TCP segments are then."""

from __future__ import annotations

import math

from fedlp_edge.transport.mqtt.stalls import Stalls


def test_two_connections_in_a_row_that_stall_make_segments_shorter() -> None:
    stalls = Stalls()
    assert stalls.segment_bytes is None

    assert not stalls.ended(heard_seconds=3600.0, silent_seconds=45.0, keepalive_seconds=30.0)
    assert stalls.ended(heard_seconds=0.1, silent_seconds=48.0, keepalive_seconds=30.0)
    assert stalls.segment_bytes == 1200


def test_segments_that_stall_as_well_become_as_short_as_can_be_and_then_no_shorter() -> None:
    stalls = Stalls()
    told = [stalls.ended(0.1, 48.0, 30.0) for _ in range(6)]
    assert told == [False, True, False, True, False, False]
    assert stalls.segment_bytes == 536


def test_a_network_that_goes_away_now_and_then_changes_nothing() -> None:
    stalls = Stalls()
    assert [stalls.ended(600.0, 48.0, 30.0) for _ in range(5)] == [False] * 5
    assert stalls.segment_bytes is None


def test_connections_that_end_without_silence_are_none_that_stall() -> None:
    stalls = Stalls()
    ends = [(0.1, 48.0), (0.1, 2.0), (0.1, 48.0), (0.1, 20.0)]
    assert [stalls.ended(heard, silent, 30.0) for heard, silent in ends] == [False] * 4
    assert not any(stalls.ended(0.1, 1e6, math.inf) for _ in range(3)), "without pings, silence says nothing"
