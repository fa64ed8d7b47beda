"""How much of what one device says is written down: whoever floods the coordinator fills nobody's log or disk. Pure."""

from __future__ import annotations

import logging
from collections.abc import Callable

from coordinator.limits import LIMITS

log = logging.getLogger("fedlp.coordinator")


_OTHERS = "devices without number"


class MessageAllowance:
    """An account for each device, filled at a steady rate.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._accounts: dict[str, _Account] = {}

    def take(self, device: str) -> bool:
        """Whether one more message of a device is heeded; says how many were not once that is over."""
        name = device if device in self._accounts or len(self._accounts) < LIMITS.message_accounts else _OTHERS
        now = self._clock()
        account = self._accounts.setdefault(name, _Account(now))
        ignored = account.ignored
        heeded = account.take(now)
        if not heeded and not ignored:
            log.warning(
                "%s says too much; what comes faster than %g messages a second is ignored",
                name,
                LIMITS.messages_per_second,
            )
        elif heeded and ignored:
            log.warning("%s said too much: %d of its messages were ignored", name, ignored)
        return heeded


class _Account:
    def __init__(self, now: float) -> None:
        self._left = float(LIMITS.message_burst)
        self._at = now
        self.ignored = 0

    def take(self, now: float) -> bool:
        self._left = min(LIMITS.message_burst, self._left + (now - self._at) * LIMITS.messages_per_second)
        self._at = now
        # Whoever has overdrawn it must be quiet for a while: else each second message of a flood would be a line.
        if self._left < (LIMITS.message_burst / 3 if self.ignored else 1):
            self.ignored += 1
            return False
        self._left -= 1
        self.ignored = 0
        return True
