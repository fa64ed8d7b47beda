"""This module has clocks that stand still while no device can be heard: without a broker, or in a process that is held.

Nobody misses a deadline then. A broker that is away for long, or a coordinator that was stopped for a while (Ctrl-Z,
``docker pause``, a virtual machine that is moved), would else end a run, with all devices to blame.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from coordinator.limits import LIMITS

log = logging.getLogger("fedlp.coordinator")


class AwakeClock:
    """A monotonic clock that leaves out the time in which nobody looked at it, but for its first seconds.

    Args:
        clock: The clock below, in monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen = clock()
        self._left_out = 0.0

    def __call__(self) -> float:
        """Returns the time that it shows, in seconds."""
        now = self._clock()
        unseen, self._seen = now - self._seen, now
        if unseen > LIMITS.held_seconds:
            self._left_out += unseen - LIMITS.held_seconds
            log.info("this process did not run for %.0f s, or was busy: deadlines wait for that", unseen)
        return now - self._left_out


class BrokerClock:
    """A monotonic clock that shows seconds with a broker, at first those of the clock below it.

    Args:
        clock: The clock below, in monotonic seconds.
        grace_seconds: Seconds that it goes on to stand still when the broker is back, so that devices come back, too.
    """

    def __init__(self, clock: Callable[[], float], grace_seconds: float) -> None:
        self._clock = clock
        self._grace_seconds = grace_seconds
        self._behind = 0.0
        self._shown = -math.inf
        self._stands = False

    def now(self) -> float:
        """Returns the time that it shows, in seconds."""
        return self._shown if self._stands else max(self._shown, self._clock() - self._behind)

    def when(self, time: float) -> float:
        """Returns when it shows ``time``, in seconds of the clock below; infinite while it stands still."""
        if self._stands:
            return math.inf
        # One step further, so that it shows no less than ``time`` then, whatever is rounded.
        return math.nextafter(time + self._behind, math.inf) if self._behind else time

    def stop(self) -> None:
        """Stands still from here on: the broker is lost."""
        self._shown, self._stands = self.now(), True

    def go(self) -> None:
        """Goes on, after the grace: the broker is back."""
        if self._stands:
            self._behind = self._clock() + self._grace_seconds - self._shown
            self._stands = False
