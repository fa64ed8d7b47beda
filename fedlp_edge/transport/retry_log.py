"""This module keeps a broker that is away, or refuses, for days from filling the log with a line for each attempt."""

from __future__ import annotations

import re

FIRST_PAUSE_SECONDS = 60.0
LAST_PAUSE_SECONDS = 3600.0

_CLOCK_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d")


class RetryLog:
    """Decides which failed attempts are worth a line: each new reason, and the same one ever more rarely.

    An attempt every few seconds would write some ten thousand lines a day, on a device whose disk is an SD card.
    """

    def __init__(self) -> None:
        self._last = ""
        self._next = 0.0
        self._pause = 0.0

    def is_news(self, reason: str, now: float) -> bool:
        """Whether a failed attempt is to be told.

        Args:
            reason: Reason of the failure, as people read it.
            now: Time in seconds of a clock that does not jump.
        """
        reason = _CLOCK_TIME.sub("", reason)  # what the clock says is no other reason
        if reason == self._last and now < self._next:
            return False
        self._pause = min(LAST_PAUSE_SECONDS, 2 * self._pause) if reason == self._last else FIRST_PAUSE_SECONDS
        self._last, self._next = reason, now + self._pause
        return True


class RefusalLog:
    """Decides which refused messages are worth a line: of each topic, as `RetryLog` does of attempts."""

    def __init__(self) -> None:
        self._topics: dict[str, RetryLog] = {}

    def is_news(self, topic: str, reason: str, now: float) -> bool:
        """Whether a refusal is to be told.

        Args:
            topic: Topic that the broker refuses.
            reason: Reason that it gives.
            now: Time in seconds of a clock that does not jump.
        """
        return self._topics.setdefault(topic, RetryLog()).is_news(reason, now)
