"""Notices devices that are told what to hold and never say that they hold it.

A device that only builds its model for long says nothing for a while. One that never hears what it is told, or is
never heard, does so for ever: brokers drop what their access rules forbid without a word to anybody, or end the
connection.
"""

from __future__ import annotations

import logging
from collections.abc import Container
from dataclasses import dataclass

from coordinator.limits import LIMITS
from fedlp_edge.wire.messages import Assignment
from fedlp_edge.wire.topics import Topics

log = logging.getLogger("fedlp.coordinator")


@dataclass(frozen=True)
class _Told:
    """What a device was told, and since when, in seconds."""

    session: str
    assignment: Assignment
    since: float


class UnansweredAssignments:
    """The assignments that devices have not answered yet.

    Args:
        topics: Topics of the fleet.
    """

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._told: dict[str, _Told] = {}
        self._named: set[tuple[str, str]] = set()

    def told(self, session: str, assignment: Assignment, now: float) -> None:
        """Notes that a device is told what to hold, perhaps once more.

        Args:
            session: Session of the device's agent.
            assignment: What it is told.
            now: Time in seconds of the clock of the service.
        """
        entry = self._told.get(assignment.device)
        if entry is None or (entry.session, entry.assignment) != (session, assignment):
            self._told[assignment.device] = _Told(session, assignment, now)

    def answered(self, device: str) -> None:
        """Notes that a device has said that it is ready, or why it is not, or has gone."""
        self._told.pop(device, None)

    def awaits(self, device: str) -> bool:
        """Returns whether a device has not answered what it was told."""
        return device in self._told

    def tick(self, now: float, unheard: Container[str] = ()) -> None:
        """Names each device, once in the life of its agent, that has been silent for long.

        Args:
            now: Time in seconds of the clock of the service.
            unheard: Devices that are known from what the broker has kept alone.
        """
        for device, entry in self._told.items():
            life = (device, entry.session)
            if now - entry.since < LIMITS.unanswered_seconds or life in self._named:
                continue
            self._named.add(life)
            if device in unheard:
                log.warning(
                    "the broker has kept a status of %s, of which nothing else was heard in %.0f s: it is off, and the "
                    "broker missed its end; removing the retained message on %s makes that known",
                    device,
                    now - entry.since,
                    self._topics.of("device", device),
                )
                continue
            log.warning(
                "%s was told its depth %.0f s ago and has not answered: it may be building the model still, or the "
                "broker's access rules keep %s from it, or %s from this coordinator; the log of its agent and fedlp "
                "doctor broker tell",
                device,
                now - entry.since,
                self._topics.of("down", device),
                self._topics.of("up", device),
            )
