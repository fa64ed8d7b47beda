"""Notices devices that are told again and again what to hold and never say that they hold it.

A device that only builds its model for long does the same for a while. One that never hears what it is told, or is
never heard, does so for ever: brokers drop what their access rules forbid without a word to anybody.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from coordinator.limits import LIMITS
from fedlp_edge.wire.messages import Assignment
from fedlp_edge.wire.topics import Topics

log = logging.getLogger("fedlp.coordinator")


@dataclass
class _Told:
    """What a device was told, since when in seconds, and whether people know."""

    session: str
    assignment: Assignment
    since: float
    known: bool = False


class UnansweredAssignments:
    """The assignments that devices have not answered yet.

    Args:
        topics: Topics of the fleet.
    """

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._told: dict[str, _Told] = {}

    def told(self, session: str, assignment: Assignment, now: float) -> None:
        """Notes that a device is told, and warns once if it has been told the same for long.

        Args:
            session: Session of the device's agent.
            assignment: What it is told.
            now: Time in seconds of the clock of the service.
        """
        device = assignment.device
        entry = self._told.get(device)
        if entry is None or (entry.session, entry.assignment) != (session, assignment):
            self._told[device] = _Told(session, assignment, now)
            return
        waited = now - entry.since
        if entry.known or waited < LIMITS.unanswered_seconds:
            return
        entry.known = True
        log.warning(
            "%s was told its depth %.0f s ago, and several times since, and has not answered: it may be building the "
            "model still, or the broker's access rules keep %s from it, or %s from this coordinator, without a word; "
            "the log of its agent and fedlp doctor broker tell",
            device,
            waited,
            self._topics.of("down", device),
            self._topics.of("up", device),
        )

    def answered(self, device: str) -> None:
        """Notes that a device has said that it is ready, or why it is not, or has gone."""
        self._told.pop(device, None)
