from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.transfer.flow_limits import FlowLimits


@pytest.mark.parametrize(
    ("messages", "chunk_bytes", "limits"),
    [
        (None, 65536, FlowLimits(broadcast=None, repeat=64, credit=64)),
        (1000, 65536, FlowLimits(broadcast=500, repeat=64, credit=64)),
        (1000, 524288, FlowLimits(broadcast=256, repeat=32, credit=32)),
        (None, 524288, FlowLimits(broadcast=None, repeat=32, credit=32)),
        (100, 65536, FlowLimits(broadcast=50, repeat=25, credit=50)),
        (100, 524288, FlowLimits(broadcast=50, repeat=25, credit=32)),
        (1, 524288, FlowLimits(broadcast=2, repeat=1, credit=1)),
    ],
)
def test_shares_the_queue_and_the_memory_of_a_broker(
    messages: int | None, chunk_bytes: int, limits: FlowLimits
) -> None:
    assert FlowLimits.for_queue(messages, chunk_bytes) == limits


@settings(max_examples=30)
@given(st.integers(4, 10_000), st.integers(1024, 524_288))
def test_leaves_room_for_control_messages(messages: int, chunk_bytes: int) -> None:
    flow = FlowLimits.for_queue(messages, chunk_bytes)
    assert flow.broadcast is not None
    # A subscriber's queue holds a broadcast and a repeat at the same time.
    assert flow.broadcast + flow.repeat < messages
    assert 1 <= flow.credit <= messages / 2


@pytest.mark.parametrize(("deadline", "seconds"), [(300.0, 75.0), (8.0, 5.0)])
def test_silent_readers_are_waited_for_a_quarter_of_a_round_at_the_most(deadline: float, seconds: float) -> None:
    assert FlowLimits.for_queue(100, 1024, deadline).reader_seconds == seconds
