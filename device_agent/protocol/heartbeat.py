"""Speaking up when nothing comes: a lost message must not leave a device without work for ever. Pure.

A broker whose queue is full drops messages after it has acknowledged them. What follows from an offer or a request
is repeated by whoever waits for it; but a device that waits for its next task cannot know whether there is one. So
an idle device says from time to time that it is there and ready, and the coordinator gives it (again) what it lacks.
"""

from __future__ import annotations

from device_agent.limits import LIMITS
from device_agent.protocol.events import Identity
from fedlp_edge.core.seeds import uniform

_LIMITS = LIMITS.presence


class Heartbeat:
    """When an idle device speaks up next.

    Args:
        identity: of the agent; decides its place in the spread.
    """

    def __init__(self, identity: Identity) -> None:
        self._stretch = 1 + _LIMITS.heartbeat_spread * uniform("reminder", identity.device)
        self._patience = _LIMITS.heartbeat_first_seconds
        self._since: float | None = None

    def heard(self, now: float) -> None:
        """The coordinator has just spoken to this device, or has just come."""
        self._patience, self._since = _LIMITS.heartbeat_first_seconds, now

    def silent(self) -> None:
        """There is nobody to speak to."""
        self._since = None

    def next_wakeup(self) -> float | None:
        """When to speak up; None if there is nobody to speak to."""
        return None if self._since is None else self._since + self._patience * self._stretch

    def due(self, now: float) -> bool:
        """Whether it is time; the next time is then further away."""
        deadline = self.next_wakeup()
        if deadline is None or now < deadline:
            return False
        self._patience, self._since = min(2 * self._patience, _LIMITS.heartbeat_longest_seconds), now
        return True
