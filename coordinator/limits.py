"""All limits of the coordinator, each once, with its unit and the reason for its size."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CoordinatorLimits:
    """What the coordinator waits for, reads and sends at the most or at the least.

    Attributes:
        control_bytes: bytes of the longest control message that is read at all; an offer for a model of 4,000 units
            stays far below.
        window_chunks: chunks that the broker may not have acknowledged yet; enough to fill a local network.
        heartbeat_seconds: seconds after which the loop looks at its clocks, whatever comes.
        build_seconds: seconds that the worker may take to build the model; large ones take minutes on small machines.
        return_seconds: seconds for devices to report to a coordinator that was started again after the last round; who
            does is waited for.
    """

    control_bytes: int = 1 << 20
    window_chunks: int = 32
    heartbeat_seconds: float = 0.5
    build_seconds: float = 600.0
    return_seconds: float = 20.0


LIMITS = CoordinatorLimits()
"""The limits of this coordinator."""
