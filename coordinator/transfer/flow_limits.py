"""Limits the chunks that may be under way, so that no broker queue overflows, and the time that devices are waited for.

A broker holds a limited number of messages for each subscriber and drops what comes on top, after it has
acknowledged it. Three streams meet such a queue, and each gets a share of it that leaves room for the control
messages that travel beside them, and no more bytes than a broker has memory for (docs/adr/0009-flow-control.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from coordinator.limits import LIMITS


@dataclass(frozen=True)
class FlowLimits:
    """The limits of chunks under way, and of the time to wait for a device.

    Attributes:
        broadcast: Chunks sent ahead of what the slowest reader has reported; None for any number.
        repeat: Chunks sent to one device for one request.
        credit: Chunks granted to all devices together and not yet arrived.
        reader_seconds: Seconds that a broadcast waits for a silent reader at the most, whatever that says of its link.
    """

    broadcast: int | None
    repeat: int
    credit: int
    reader_seconds: float = math.inf

    @classmethod
    def for_queue(cls, messages: int | None, chunk_bytes: int, deadline_seconds: float = math.inf) -> FlowLimits:
        """Returns the limits for a broker's queue, the length of the chunks in it and the deadline of rounds.

        Args:
            messages: Number of messages that the broker holds for a subscriber; None for any number.
            chunk_bytes: Payload bytes of the longest chunk.
            deadline_seconds: Seconds of a round.
        """
        reader_seconds = max(LIMITS.reader_seconds, LIMITS.reader_share * deadline_seconds)
        repeat = min(LIMITS.repeat_chunks, LIMITS.repeat_bytes // chunk_bytes)
        credit = min(LIMITS.credit_chunks, LIMITS.credit_bytes // chunk_bytes)
        if messages is None:
            return cls(None, repeat, credit, reader_seconds)
        return cls(
            broadcast=max(2, min(LIMITS.broadcast_bytes // chunk_bytes, messages // 2)),
            repeat=max(1, min(repeat, messages // 4)),
            credit=max(1, min(credit, messages // 2)),
            reader_seconds=reader_seconds,
        )
