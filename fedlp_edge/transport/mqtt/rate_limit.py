"""Staying below what a hosted broker lets one connection publish: messages and bytes per second. Pure.

Whoever publishes faster is throttled or thrown off there. Two accounts fill at the allowed rates. A publish may go
while neither is overdrawn, and may overdraw them, so its size need not be known before.
"""

from __future__ import annotations

BURST_SECONDS = 0.25
"""What an idle connection saves up."""


class RateLimit:
    """The allowance of one connection.

    Args:
        messages: per second; None for any number.
        nbytes: per second; None for any number.
        now: seconds on a monotonic clock.
    """

    def __init__(self, messages: float | None, nbytes: float | None, now: float) -> None:
        self._messages = _Account(messages, now)
        self._bytes = _Account(nbytes, now)

    def wait(self, now: float) -> float:
        """Seconds until the next publish may go; 0 if it may now."""
        return max(self._messages.wait(now), self._bytes.wait(now))

    def spend(self, nbytes: int, now: float) -> None:
        """A publish of this size went."""
        self._messages.spend(1, now)
        self._bytes.spend(nbytes, now)


class _Account:
    """Kept as the time at which everything spent so far will have been earned."""

    def __init__(self, rate: float | None, now: float) -> None:
        self._rate = rate
        self._even_at = now - BURST_SECONDS

    def wait(self, now: float) -> float:
        return 0.0 if self._rate is None else max(0.0, self._even_at - now)

    def spend(self, amount: float, now: float) -> None:
        if self._rate is not None:
            self._even_at = max(self._even_at, now - BURST_SECONDS) + amount / self._rate
