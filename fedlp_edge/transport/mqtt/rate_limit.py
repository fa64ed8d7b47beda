"""This module limits the messages and bytes per second that one connection publishes to a hosted broker. Pure.

Such a broker throttles or disconnects a client that publishes faster. Two token buckets fill at the allowed rates. A
publish may go while neither is below zero, and may take them below zero, so its size need not be known before.
"""

from __future__ import annotations

BURST_SECONDS = 0.25
"""Seconds' worth of allowance that an idle connection accumulates."""


class RateLimit:
    """The rate limit of one connection.

    Args:
        messages: Messages per second; None for any number.
        nbytes: Bytes per second; None for any number.
        now: Seconds on a monotonic clock.
    """

    def __init__(self, messages: float | None, nbytes: float | None, now: float) -> None:
        self._messages = _TokenBucket(messages, now)
        self._bytes = _TokenBucket(nbytes, now)

    def wait(self, now: float) -> float:
        """Returns the seconds until the next publish may go; 0 if it may go now."""
        return max(self._messages.wait(now), self._bytes.wait(now))

    def spend(self, nbytes: int, now: float) -> None:
        """Records a publish of ``nbytes`` bytes."""
        self._messages.spend(1, now)
        self._bytes.spend(nbytes, now)


class _TokenBucket:
    """A token bucket, stored as the time at which its balance will be back at zero."""

    def __init__(self, rate: float | None, now: float) -> None:
        self._rate = rate
        self._even_at = now - BURST_SECONDS

    def wait(self, now: float) -> float:
        return 0.0 if self._rate is None else max(0.0, self._even_at - now)

    def spend(self, amount: float, now: float) -> None:
        if self._rate is not None:
            self._even_at = max(self._even_at, now - BURST_SECONDS) + amount / self._rate
