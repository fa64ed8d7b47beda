"""Speaks and listens on the one topic that all coordinators of a fleet share, so that only one is at work."""

from __future__ import annotations

from collections.abc import Callable

from coordinator.limits import LIMITS
from coordinator.topic_claim import TopicClaim
from coordinator.transfer.messenger import ControlMessenger
from fedlp_edge.wire.messages import Announcement, Claim, decoder


class CoordinatorTopic:
    """The claim of one coordinator to its fleet, in messages; `TopicClaim` decides.

    Args:
        messenger: Sends claims and announcements.
        run: Name of the run.
        clock: Monotonic seconds.
    """

    def __init__(self, messenger: ControlMessenger, run: str, clock: Callable[[], float]) -> None:
        self._messenger = messenger
        self._clock = clock
        self._topic_claim = TopicClaim(messenger.session, run, clock())
        self._read = decoder(Announcement | Claim, LIMITS.control_bytes)

    @property
    def settled(self) -> bool:
        """Whether this coordinator is at work, and answers those who ask."""
        return self._topic_claim.settled

    @property
    def seconds_left(self) -> float:
        """Until the question is answered at the latest."""
        return max(0.0, self._topic_claim.waits_until() - self._clock())

    def ask(self) -> None:
        """Asks whether another coordinator is at work: at the start, and after every reconnect."""
        self._messenger.claim(self._topic_claim.ask(self._clock()))

    def answered(self) -> bool:
        """Whether nobody objects, which is said once for each question."""
        return self._topic_claim.answered(self._clock())

    def receive(self, payload: bytes, *, retained: bool) -> None:
        """Takes a message of this coordinator itself, of its last will, or of another coordinator.

        Raises:
            TopicClaimedError: Another coordinator is at work.
            PeerError: The payload is no such message.
        """
        if not payload:
            return
        message = self._read(payload)
        if isinstance(message, Claim):
            if answer := self._topic_claim.heard(message, self._clock()):
                self._messenger.claim(answer)
        elif isinstance(message, Announcement):
            self._topic_claim.announced(message, self._clock())
            if self._topic_claim.settled and not retained:
                self._messenger.overhear(message)
