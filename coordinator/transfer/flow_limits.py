"""How much may be under way, so that no broker queue overflows.

A broker holds a limited number of messages for each subscriber and drops what comes on top, after it has
acknowledged it. Three streams meet such a queue, and each gets a share of it that leaves room for the control
messages that travel beside them (docs/adr/0009-flow-control.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.limits import LIMITS


@dataclass(frozen=True)
class FlowLimits:
    """Numbers of chunks.

    Attributes:
        broadcast: sent ahead of what the slowest reader has reported; None for any number.
        repeat: sent to one device for one request.
        credit: granted to all devices together and not yet arrived.
    """

    broadcast: int | None
    repeat: int
    credit: int

    @classmethod
    def for_queue(cls, messages: int | None) -> FlowLimits:
        """For a broker that holds this many messages for a subscriber; None for any number."""
        if messages is None:
            return cls(None, LIMITS.repeat_chunks, LIMITS.credit_chunks)
        return cls(
            broadcast=max(2, messages // 2),
            repeat=max(1, min(LIMITS.repeat_chunks, messages // 4)),
            credit=max(1, min(LIMITS.credit_chunks, messages // 2)),
        )
