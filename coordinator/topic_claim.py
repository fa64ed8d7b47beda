"""Decides that a fleet has one coordinator: a new one asks who is at work before it talks to devices; pure.

Two coordinators of one fleet would take its devices from each other for ever. So whoever starts, or comes back after
its connection was lost, asks on the topic of the coordinator; whoever is at work answers, and the one that asked ends.
Neither clocks nor the ids of connections decide: a retained announcement that nobody stands behind is waited on for a
few seconds, and then it is void.
"""

from __future__ import annotations

from coordinator.limits import LIMITS
from fedlp_edge.core.rollout.rollout_names import is_rollout
from fedlp_edge.wire.messages import Announcement, Claim


class TopicClaim:
    """The claim of one coordinator, and what it knows of others.

    Args:
        session: Session id of this coordinator.
        run: Name of this coordinator's run.
        now: The time at which it asks.

    Attributes:
        settled: Whether it is at work, and answers those who ask.
    """

    def __init__(self, session: str, run: str, now: float) -> None:
        self._session = session
        self._run = run
        self._until = now + LIMITS.echo_seconds
        self._occupied = False
        self._asking = True
        self.settled = False

    def ask(self, now: float) -> Claim:
        """Returns the question of a coordinator at its start and after every reconnect."""
        self._until, self._occupied, self._asking = now + LIMITS.echo_seconds, False, True
        return Claim(session=self._session, run=self._run)

    def answered(self, now: float) -> bool:
        """Returns whether nobody objects, True once for each question: this coordinator is at work from now on."""
        if not self._asking or now < self._until:
            return False
        self._asking, self.settled = False, True
        return True

    def waits_until(self) -> float:
        """Returns the time in seconds at which the question counts as answered at the latest."""
        return self._until

    def announced(self, message: Announcement, now: float) -> None:
        """Takes an announcement that a coordinator, perhaps an earlier life of this one, is at work."""
        if message.online and message.session != self._session and self._asking and not self._occupied:
            self._occupied = True
            self._until = now + LIMITS.answer_seconds

    def heard(self, message: Claim, now: float) -> Claim | None:
        """Takes a question or an answer; returns the reply, None if there is none.

        Raises:
            TopicClaimedError: Another coordinator is at work.
        """
        if message.to == self._session:
            self.settled = False
            raise TopicClaimedError(message.run)
        if message.to:
            return None
        if message.session == self._session:
            if self._asking and not self._occupied:
                self._until = now  # all that the broker has kept came before this
            return None
        # Of two that start together the one goes on whose session sorts first.
        if self.settled or self._session < message.session:
            return Claim(session=self._session, run=self._run, to=message.session)
        return None


def claimed_by(run: str, other: str = "a") -> str:
    """Returns who is at work, in words for the operator: the coordinator of a run, or a roll-out.

    Args:
        run: Run of whoever answered.
        other: ``another`` for an operator who has just started a coordinator, else ``a``.
    """
    return f"a roll-out ({run})" if is_rollout(run) else f"{other} coordinator (run {run})"


class TopicClaimedError(Exception):
    """Raised when another coordinator answered; ``args[0]`` is its run."""
