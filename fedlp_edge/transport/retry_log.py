"""This module keeps a broker that is away, or refuses, for days from filling the log with a line for each attempt."""

from __future__ import annotations

import re

from fedlp_edge.transport.base import Refused

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
    """Words what a broker refuses, and decides of each topic how often that is told, as `RetryLog` does of attempts.

    Args:
        owner: Whose login the access rules are about, such as ``this device's``.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._topics: dict[str, RetryLog] = {}

    def line(self, refused: Refused, now: float) -> str | None:
        """Returns the line for a refusal; None if it is not to be told again yet.

        Args:
            refused: What the broker refuses.
            now: Time in seconds of a clock that does not jump.
        """
        news = self._topics.setdefault(refused.topic, RetryLog()).is_news(refused.reason, now)
        return self.words(refused) if news else None

    def words(self, refused: Refused) -> str:
        """Returns the line for a refusal that is told in any case."""
        what = "a message on " if refused.too_long else "the subscription to " if refused.token is None else ""
        remedy = "" if refused.too_long else f"; check its access rules for {self._owner} login"
        return f"the broker refuses {what}{refused.topic}: {refused.reason}{remedy}"
