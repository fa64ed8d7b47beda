"""This module keeps a broker that is away for days from filling the log with one line for each attempt."""

from __future__ import annotations

FIRST_PAUSE_SECONDS = 60.0
LAST_PAUSE_SECONDS = 3600.0


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
        if reason == self._last and now < self._next:
            return False
        self._pause = min(LAST_PAUSE_SECONDS, 2 * self._pause) if reason == self._last else FIRST_PAUSE_SECONDS
        self._last, self._next = reason, now + self._pause
        return True
