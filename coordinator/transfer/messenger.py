"""Sends the coordinator's control messages and its retained announcement, and counts the bytes of all traffic."""

from __future__ import annotations

import secrets
from collections import Counter
from typing import Literal, get_args

from fedlp_edge.reporting.summary import Purpose, Traffic
from fedlp_edge.transport.base import LastWill, Transport
from fedlp_edge.wire.messages import Announcement, Claim, FromCoordinator, Offer, Receipt, encode
from fedlp_edge.wire.topics import Topics

State = Literal["waiting", "running", "finished", "offline"]


class ControlMessenger:
    """The sender of control messages to devices, and the counter of the run's traffic.

    Args:
        transport: Started or not.
        topics: Topics of the fleet.
        run: Name of the run.
    """

    def __init__(self, transport: Transport, topics: Topics, run: str) -> None:
        self._bytes: Counter[Purpose] = Counter()
        self._messages: Counter[Purpose] = Counter()
        self._transport = transport
        self._topics = topics
        self._run = run
        self._session = secrets.token_hex(8)
        self._state: State = "waiting"

    def tell(self, message: FromCoordinator) -> int:
        """Sends a message to the device that it names; returns the token of its Delivered event."""
        payload = encode(message)
        self.count("control", len(payload))
        return self._transport.publish(self._topics.of("down", message.device), payload)

    def receipt(self, offer: Offer, state: Literal["accepted", "rejected", "stale"], reason: str = "") -> None:
        """Sends the final decision on an offered update."""
        self.tell(
            Receipt(
                run=offer.run,
                round=offer.round,
                device=offer.device,
                digest=offer.digest,
                state=state,
                reason=reason,
            )
        )

    def announce(self, state: State | None = None, *, leaving: bool = False) -> None:
        """Publishes, retained, the state of the run.

        Args:
            state: State of the run; by default the one that was announced last.
            leaving: This is the last word; nobody is here any more.
        """
        self._state = state or self._state
        message = Announcement(online=not leaving, run=self._run, session=self._session, state=self._state)
        payload = encode(message)
        self.count("control", len(payload))
        self._transport.publish(self._topics.coordinator, payload, retain=True)

    @property
    def session(self) -> str:
        """Random name of this life of the coordinator."""
        return self._session

    def claim(self, message: Claim) -> None:
        """Publishes the question who is the coordinator, or an answer to it."""
        self._transport.publish(self._topics.coordinator, encode(message))

    def overhear(self, message: Announcement) -> None:
        """Repeats the announcement if the last will of an earlier life has come late and replaced it."""
        if not message.online and message.session != self._session:
            self.announce()

    def count(self, purpose: Purpose, nbytes: int) -> None:
        """Counts one message, sent or received."""
        self._bytes[purpose] += nbytes
        self._messages[purpose] += 1

    def take_traffic(self) -> dict[Purpose, Traffic]:
        """Returns the traffic since the last call, by purpose."""
        taken = {purpose: Traffic(self._bytes[purpose], self._messages[purpose]) for purpose in get_args(Purpose)}
        self._bytes.clear()
        self._messages.clear()
        return taken


def last_will(topics: Topics, run: str) -> LastWill:
    """Returns the last will of a coordinator, which says that it is offline."""
    gone = Announcement(online=False, run=run, session="gone", state="offline")
    return LastWill(topics.coordinator, encode(gone))
