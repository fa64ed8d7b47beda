"""Limits the messages per second that the coordinator takes from each device.

A device that floods the coordinator then fills neither its log nor its disk. This module is pure.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from coordinator.limits import LIMITS

log = logging.getLogger("fedlp.coordinator")


_OTHERS = "devices without number"


class MessageRateLimit:
    """A token bucket for each device, which bounds the messages that are taken from it.

    Args:
        clock: Returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: dict[str, _TokenBucket] = {}

    def allows(self, device: str) -> bool:
        """Takes one more message of a device if its rate allows, and logs when messages of a device are ignored.

        Args:
            device: Id of the device.

        Returns:
            Whether the message is to be handled.
        """
        name = device if device in self._buckets or len(self._buckets) < LIMITS.message_accounts else _OTHERS
        now = self._clock()
        bucket = self._buckets.setdefault(name, _TokenBucket(now))
        ignored = bucket.ignored
        accepted = bucket.take(now)
        if not accepted and not ignored:
            log.warning(
                "%s says too much; what comes faster than %g messages a second is ignored (if it sends no such thing, "
                "bridges between brokers may pass messages in a circle)",
                name,
                LIMITS.messages_per_second,
            )
        elif accepted and ignored:
            log.warning("%s said too much: %d of its messages were ignored", name, ignored)
        return accepted


class _TokenBucket:
    """A bucket of at most `message_burst` messages, which fills at `messages_per_second`."""

    def __init__(self, now: float) -> None:
        self._left = float(LIMITS.message_burst)
        self._at = now
        self.ignored = 0

    def take(self, now: float) -> bool:
        self._left = min(LIMITS.message_burst, self._left + (now - self._at) * LIMITS.messages_per_second)
        self._at = now
        # An empty bucket must first fill to a third: else every second message of a flood would be a line in the log.
        if self._left < (LIMITS.message_burst / 3 if self.ignored else 1):
            self.ignored += 1
            return False
        self._left -= 1
        self.ignored = 0
        return True
