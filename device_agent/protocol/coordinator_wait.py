"""Ends an agent that its owner lets wait for a coordinator for a limited time only, as one that cron starts.

A device that nobody gives work would otherwise stay for ever, and keep its state directory from the next start. Time
counts while no coordinator can be heard and nothing is being trained or installed, which is work that would be lost. An
announcement that nobody ever followed up is none: a broker may keep that of a coordinator whose end it missed.
"""

from __future__ import annotations

from device_agent.protocol.coordinator_presence import CoordinatorPresence
from device_agent.protocol.events import Effects, Stop


class CoordinatorWait:
    """The time without a coordinator after which an agent ends.

    Args:
        coordinator: Presence of the coordinator.
        fleet: Name of the fleet, for the message.
        seconds: Seconds after which the agent ends; None for never.
    """

    def __init__(self, coordinator: CoordinatorPresence, fleet: str, seconds: float | None) -> None:
        self._coordinator = coordinator
        self._fleet = fleet
        self._seconds = seconds
        self._since: float | None = None

    def next_wakeup(self) -> float | None:
        """Returns when the agent ends unless an event comes first, in seconds; None if it does not."""
        return None if self._since is None or self._seconds is None else self._since + self._seconds

    def poll(self, now: float, *, answered: bool, busy: bool) -> Effects:
        """Ends the agent if it is time.

        Args:
            now: The time.
            answered: Whether a coordinator has ever sent this device a message.
            busy: Whether the device has work that goes on without a coordinator.
        """
        if busy or (answered and self._coordinator.connected and self._coordinator.online):
            self._since = None
            return []
        self._since = now if self._since is None else self._since
        due = self.next_wakeup()
        if due is None or now < due:
            return []
        away = "" if self._coordinator.connected else ", and the broker is not reached"
        text = (
            f'no coordinator of fleet "{self._fleet}" has answered for {self._seconds:g} s, as long as --wait says'
            f"{away}; nothing is lost, the next start goes on"
        )
        return [Stop(text, no_coordinator=True)]
