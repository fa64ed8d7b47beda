"""Knows whether the broker is connected and a coordinator is online; no other part of a device keeps that.

Every part of the protocol asks here instead of keeping a flag of its own. A coordinator is there from its announcement
on, until it announces that it is offline, or its last will does. A lost announcement does no harm: a message to this
device that is about its assignment comes from a coordinator that is there.
"""

from __future__ import annotations

from typing import Literal

from fedlp_edge.transport.base import BrokerLimits
from fedlp_edge.wire.messages import Announcement

Change = Literal["came", "restarted", "left", "none"]
"""What an announcement changed; *restarted* is a coordinator that came with another session than the last one had."""


class CoordinatorPresence:
    """The connection to the broker, and the coordinator behind it.

    Attributes:
        broker: The limits of the broker that this device is connected to; None without a connection.
        run: The run of the coordinator that is there; None while none is.
        connected_at: The time of the last connection, seconds; None before the first.
        left_at: The time at which the coordinator was last announced as offline, seconds; None while one is there, and
            before the first announcement.
        known: Whether a coordinator has been there since this agent started.
        other_protocol: The protocol of a coordinator that is there and speaks another one than this agent, so that
            neither understands the other; None if there is none.
    """

    def __init__(self) -> None:
        self.broker: BrokerLimits | None = None
        self.run: str | None = None
        self.connected_at: float | None = None
        self.left_at: float | None = None
        self.known = False
        self.other_protocol: int | None = None
        self._announced = False
        self._last_session: str | None = None

    @property
    def connected(self) -> bool:
        """Whether this device is connected to the broker."""
        return self.broker is not None

    @property
    def online(self) -> bool:
        """Whether a coordinator is online, as far as this device knows."""
        return self.run is not None

    @property
    def session(self) -> str | None:
        """Session of the coordinator that is online, by its announcement; None if that did not come."""
        return self._last_session if self._announced else None

    def broker_connected(self, limits: BrokerLimits, now: float) -> None:
        """Notes that the broker is connected (again)."""
        self.broker, self.connected_at = limits, now

    def broker_disconnected(self) -> None:
        """Notes that the connection to the broker is lost, which says nothing of the coordinator."""
        self.broker = None

    def announce(self, message: Announcement, now: float) -> Change:
        """Takes the announcement, new or repeated, of a coordinator that speaks this agent's protocol."""
        self.other_protocol = None
        if not message.online:
            self.run, self.left_at, self._announced = None, now, False
            return "left"
        if self.session == message.session:
            return "none"
        before, self._last_session = self._last_session, message.session
        self._announced = True
        self._is_there(message.run)
        return "came" if before in (None, message.session) else "restarted"

    def announce_other(self, message: Announcement, now: float) -> None:
        """Takes the announcement of a coordinator that speaks another protocol: none is there for this agent.

        One that has left says nothing of the one that comes, or that is there already.
        """
        if not message.online:
            self.other_protocol = None
            return
        self.other_protocol, self.known = message.protocol, True
        self.run, self.left_at, self._announced = None, now, False

    def coordinator_message(self, run: str) -> bool:
        """A message of a coordinator to this device came, about the run that this device is assigned to.

        Returns:
            Whether it is the first sign of that coordinator.
        """
        if self.online:
            return False
        self._is_there(run)
        return True

    def _is_there(self, run: str) -> None:
        self.run, self.left_at, self.known = run, None, True
