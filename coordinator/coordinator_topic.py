"""Speaks and listens on the one topic that all coordinators of a fleet share, so that only one is at work."""

from __future__ import annotations

import queue
from collections.abc import Callable
from contextlib import suppress

from coordinator.inbox import InboxItem, StopRequested
from coordinator.limits import LIMITS
from coordinator.topic_claim import TopicClaim
from coordinator.transfer.messenger import ControlMessenger
from fedlp_edge.errors import PeerError
from fedlp_edge.transport.base import BrokerLimits, Connected, Received, Transport
from fedlp_edge.wire.messages import Announcement, Claim, Decoder
from fedlp_edge.wire.topics import Topics


class CoordinatorTopic:
    """The messages by which one coordinator claims its fleet; `TopicClaim` decides what they mean.

    Args:
        messenger: Sends claims and announcements.
        run: Name of the run.
        clock: Monotonic seconds.
    """

    def __init__(self, messenger: ControlMessenger, run: str, clock: Callable[[], float]) -> None:
        self._messenger = messenger
        self._clock = clock
        self._topic_claim = TopicClaim(messenger.session, run, clock())
        self._read = Decoder[Announcement | Claim](Announcement | Claim, LIMITS.control_bytes)

    @property
    def settled(self) -> bool:
        """Whether this coordinator is at work, and answers those who ask."""
        return self._topic_claim.settled

    @property
    def seconds_left(self) -> float:
        """Seconds until the question counts as answered at the latest."""
        return max(0.0, self._topic_claim.waits_until() - self._clock())

    def ask(self) -> None:
        """Asks whether another coordinator is at work: at the start, and after every reconnect."""
        self._messenger.claim(self._topic_claim.ask(self._clock()))

    def answered(self) -> bool:
        """Returns whether nobody objects; True once for each question."""
        return self._topic_claim.answered(self._clock())

    def receive(self, payload: bytes, *, retained: bool) -> None:
        """Takes a message of this coordinator itself, of its last will, or of another coordinator.

        Raises:
            TopicClaimedError: Another coordinator is at work.
            PeerError: The payload is no such message.
        """
        if not payload:
            if self._topic_claim.settled:
                self._messenger.announce()  # somebody has removed what the broker kept, which newcomers need
            return
        message = self._read(payload)
        if isinstance(message, Claim):
            if answer := self._topic_claim.heard(message, self._clock()):
                self._messenger.claim(answer)
        else:
            self._topic_claim.announced(message, self._clock())
            if self._topic_claim.settled and not retained:
                self._messenger.overhear(message)


def first_connection(
    inbox: queue.SimpleQueue[InboxItem], waits: Callable[[], None] = lambda: None
) -> BrokerLimits | None:
    """Waits for the broker; None if stopped meanwhile.

    Args:
        inbox: Queue of the events of the transport, and of the stop signal.
        waits: Function that is called if the broker is not there yet.
    """
    patience: float | None = LIMITS.broker_seconds
    while True:
        try:
            item = inbox.get(timeout=patience)
        except queue.Empty:
            waits()
            patience = None
            continue
        if isinstance(item, Connected):
            return item.limits
        if isinstance(item, StopRequested):
            return None


def settle_in(
    inbox: queue.SimpleQueue[InboxItem], transport: Transport, topics: Topics, coordinator_topic: CoordinatorTopic
) -> bool:
    """Finds out whether another coordinator is at work; False if stopped meanwhile.

    Args:
        inbox: Queue of the events of the transport, and of the stop signal.
        transport: Connected.
        topics: Topics of the fleet.
        coordinator_topic: Claim to the fleet.

    Raises:
        TopicClaimedError: There is one.
    """
    transport.subscribe(topics.coordinator)
    coordinator_topic.ask()
    while not coordinator_topic.answered():
        try:
            item = inbox.get(timeout=coordinator_topic.seconds_left)
        except queue.Empty:
            continue
        if isinstance(item, StopRequested):
            return False
        if isinstance(item, Connected):
            coordinator_topic.ask()
        if isinstance(item, Received) and item.topic == topics.coordinator:
            with suppress(PeerError):
                coordinator_topic.receive(item.payload, retained=item.retained)
    return True
