"""How the coordinator speaks: control messages to devices, its retained announcement, and what it all weighs."""

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
    """Sends control messages.

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
        """Says the final word on an offered update."""
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
        """Tells everybody, now and later, where the run stands.

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
        """Of this life of the coordinator."""
        return self._session

    def claim(self, message: Claim) -> None:
        """Asks, or answers, who is the coordinator."""
        self._transport.publish(self._topics.coordinator, encode(message))

    def overhear(self, message: Announcement) -> None:
        """Says again where the run stands, if the goodbye of an earlier life has come late and covered it."""
        if not message.online and message.session != self._session:
            self.announce()

    def count(self, purpose: Purpose, nbytes: int) -> None:
        """Notes one message, sent or received."""
        self._bytes[purpose] += nbytes
        self._messages[purpose] += 1

    def take_traffic(self) -> dict[Purpose, Traffic]:
        """What was noted since the last call, by purpose."""
        taken = {purpose: Traffic(self._bytes[purpose], self._messages[purpose]) for purpose in get_args(Purpose)}
        self._bytes.clear()
        self._messages.clear()
        return taken


def last_will(topics: Topics, run: str) -> LastWill:
    """What the broker says when the coordinator vanishes."""
    gone = Announcement(online=False, run=run, session="gone", state="offline")
    return LastWill(topics.coordinator, encode(gone))
