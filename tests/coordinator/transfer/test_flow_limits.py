from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.transfer.flow_limits import FlowLimits


@pytest.mark.parametrize(
    ("messages", "limits"),
    [
        (None, FlowLimits(broadcast=None, repeat=64, credit=64)),
        (1000, FlowLimits(broadcast=500, repeat=64, credit=64)),
        (100, FlowLimits(broadcast=50, repeat=25, credit=50)),
        (1, FlowLimits(broadcast=2, repeat=1, credit=1)),
    ],
)
def test_shares_the_queue_of_a_broker(messages: int | None, limits: FlowLimits) -> None:
    assert FlowLimits.for_queue(messages) == limits


@settings(max_examples=30)
@given(st.integers(4, 10_000))
def test_leaves_room_for_control_messages(messages: int) -> None:
    flow = FlowLimits.for_queue(messages)
    assert flow.broadcast is not None
    # A subscriber's queue holds a broadcast and a repeat at the same time.
    assert flow.broadcast + flow.repeat < messages
    assert 1 <= flow.credit <= messages / 2


@pytest.mark.parametrize(("deadline", "seconds"), [(300.0, 75.0), (8.0, 5.0)])
def test_silent_readers_are_waited_for_a_quarter_of_a_round_at_the_most(deadline: float, seconds: float) -> None:
    assert FlowLimits.for_queue(100, deadline).reader_seconds == seconds
