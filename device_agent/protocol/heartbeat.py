"""Times the reports of an idle device, so that a lost message does not leave it without work for ever.

A broker whose queue is full drops messages after it has acknowledged them. What follows from an offer or a request is
repeated by whoever waits for it; but a device that waits for its next task cannot know whether there is one. So an idle
device reports from time to time that it is there and ready, and the coordinator sends it (again) what it lacks.
"""

from __future__ import annotations

from device_agent.limits import LIMITS
from device_agent.protocol.coordinator_presence import CoordinatorPresence
from device_agent.protocol.events import Identity
from fedlp_edge.core.seeds import uniform

_LIMITS = LIMITS.presence


class Heartbeat:
    """The time of an idle device's next report, while a coordinator is online.

    Args:
        identity: Identity of the agent; decides its place in the spread.
        coordinator: Presence of the coordinator.
    """

    def __init__(self, identity: Identity, coordinator: CoordinatorPresence) -> None:
        self._coordinator = coordinator
        self._stretch = 1 + _LIMITS.heartbeat_spread * uniform("reminder", identity.device)
        self._patience = _LIMITS.heartbeat_first_seconds
        self._since = 0.0

    def restart(self, now: float) -> None:
        """Waits anew: the coordinator has come online, or has just sent this device a message."""
        self._patience, self._since = _LIMITS.heartbeat_first_seconds, now

    def next_wakeup(self) -> float | None:
        """Returns when to report, in seconds; None while no coordinator is online."""
        return self._since + self._patience * self._stretch if self._coordinator.online else None

    def due(self, now: float) -> bool:
        """Returns whether it is time to report; the next report is then further away."""
        deadline = self.next_wakeup()
        if deadline is None or now < deadline:
            return False
        self._patience, self._since = min(2 * self._patience, _LIMITS.heartbeat_longest_seconds), now
        return True
