"""What a device knows of its link, and what follows for how it is used. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fedlp_edge.wire.chunks import CHUNK_SECONDS, DEFAULT_CHUNK_BYTES, chunk_bytes_for_link

AHEAD_SECONDS = 4.0
"""Of chunks on their way at once: enough to keep any link busy, and no more, since all else has to wait behind them."""

LEAST_AHEAD = 2
"""Chunks on their way at once: while one is acknowledged the next is carried."""


@dataclass(frozen=True)
class LinkEstimate:
    """The link between a device and its broker.

    Attributes:
        rate: bytes per second in the slower direction; infinite if it is faster than can be told, None if unknown.
        latency: seconds to the broker and back.
    """

    rate: float | None = None
    latency: float = 0.0

    def seconds(self, nbytes: int) -> float:
        """That a message of so many bytes takes, and its answer; 0 if nothing is known."""
        return self.latency + (nbytes / self.rate if self.rate else 0.0)

    @property
    def is_slow(self) -> bool:
        """Whether a chunk of the usual size would take it longer than it should."""
        return self.rate is not None and self.rate * CHUNK_SECONDS < DEFAULT_CHUNK_BYTES

    def chunk_bytes(self, most: int) -> int:
        """Payload bytes of a chunk that suit the link, ``most`` at the most."""
        return chunk_bytes_for_link(most, self.rate)

    def window(self, chunk_bytes: int, most: int) -> int:
        """How many chunks may be on their way at once, ``most`` at the most."""
        if self.rate is None or math.isinf(self.rate):
            return most
        wanted = math.ceil((AHEAD_SECONDS + self.latency) * self.rate / chunk_bytes)
        return min(most, max(LEAST_AHEAD, wanted))
