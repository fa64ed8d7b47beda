"""Times the reports of an idle device, so that neither a lost message nor a bad moment leaves it without work for ever.

A broker whose queue is full drops messages after it has acknowledged them. What follows from an offer or a request is
repeated by whoever waits for it; but a device that waits for its next task cannot know whether there is one. So an idle
device reports from time to time that it is there and ready, and the coordinator sends it (again) what it lacks.

A device that the coordinator refuses measures itself again from time to time: its link, processor or memory may have
been measured while something else took them.
"""

from __future__ import annotations

from device_agent.limits import LIMITS
from device_agent.protocol.coordinator_presence import CoordinatorPresence
from device_agent.protocol.events import Effects, Identity, Log
from fedlp_edge.core.rollout.rollout_names import is_rollout
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
        self._identity = identity
        self._heard = False
        self._reports = 0

    @property
    def heard(self) -> bool:
        """Whether a coordinator has sent this device a message since the agent started."""
        return self._heard

    def answered(self) -> bool:
        """Notes that the coordinator has sent this device a message; returns whether it is the first one."""
        first, self._heard = not self._heard, True
        return first

    def reported(self) -> Effects:
        """Notes that the device has reported, and warns once if the coordinator has never answered.

        Many brokers acknowledge a message that their access rules forbid, and drop it without a word. A roll-out says
        nothing to a device before its group begins.
        """
        if self._coordinator.run is not None and is_rollout(self._coordinator.run):
            return []
        self._reports += 1
        if self._heard or self._reports != _LIMITS.unanswered_reports:
            return []
        topics, device = self._identity.topics, self._identity.device
        text = (
            f"the coordinator has answered none of {self._reports} reports: does it still run, or has the broker only "
            f"kept its announcement? Do the broker's access rules let this device publish on "
            f"{topics.of('device', device)} and read {topics.of('down', device)}? A broker may drop what they forbid "
            "without a word; fedlp doctor broker tells"
        )
        return [Log(text, warning=True)]

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


class Remeasurement:
    """The time at which a device that was refused measures itself again, while a coordinator is online.

    Args:
        coordinator: Presence of the coordinator.
    """

    def __init__(self, coordinator: CoordinatorPresence) -> None:
        self._coordinator = coordinator
        self._patience = _LIMITS.measure_first_seconds
        self._at: float | None = None

    def refused(self, now: float) -> None:
        """Notes that the coordinator refuses this device, perhaps not for the first time."""
        if self._at is None:
            self._at = now + self._patience

    def accepted(self) -> None:
        """Notes that the device was assigned a model."""
        self._patience, self._at = _LIMITS.measure_first_seconds, None

    def next_wakeup(self) -> float | None:
        """Returns when to measure, in seconds; None if nothing is refused, or no coordinator is online."""
        return self._at if self._coordinator.online else None

    def due(self, now: float) -> bool:
        """Returns whether it is time to measure; the next time is then further away."""
        deadline = self.next_wakeup()
        if deadline is None or now < deadline:
            return False
        self._patience = min(2 * self._patience, _LIMITS.measure_longest_seconds)
        self._at = now + self._patience
        return True
