"""Publishes the retained status of this device, and settles which of two agents with one name goes on.

Agents of one name would each take the other's tasks. The one that has been there for a while (``settled``) repeats its
status; the newcomer sees that and stops, whatever its clock says. Of two that came together the one stays whose session
sorts first. A *retained* foreign status proves nothing: it may be the last one of an earlier life of this very agent.
Nor does any other, before the other agent has answered (``NameContest``).
"""

from __future__ import annotations

import msgspec

from device_agent.limits import LIMITS
from device_agent.protocol.coordinator_presence import CoordinatorPresence
from device_agent.protocol.events import Effects, Identity, Log, Publish, Stop, Subscribe
from fedlp_edge import __version__
from fedlp_edge.core.metrics.serving_report import ServingReport
from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.wire.messages import Status

_LIMITS = LIMITS.presence


class NameContest:
    """The question whether another agent that seems to have this device's name is there.

    A bridge between two brokers hands on what was retained or queued when it comes back after a while, some of it
    dozens of times. Among that may be the status of an earlier life of this very agent, and nothing marks it as old.
    Whoever is there answers a status of this device; a copy does not. So a foreign status proves nothing until one more
    comes in answer to a status that was sent after the copies have arrived.

    Attributes:
        session: Session of the agent in question; empty if there is none.
    """

    def __init__(self) -> None:
        self.session = ""
        self._ask_at = 0.0
        self._asked = False

    def heard(self, session: str, now: float) -> bool:
        """Takes a status of another session; returns whether its agent is there."""
        if self._is_over(now) or session != self.session:
            self.session, self._ask_at, self._asked = session, now + _LIMITS.contest_seconds, False
        return self._asked

    def ask(self, now: float) -> bool:
        """Returns whether it is time to send a status that the other agent would answer; True once."""
        if self._is_over(now):
            self.session, self._asked = "", False
        if not self.session or self._asked or now < self._ask_at:
            return False
        self._asked = True
        return True

    def next_wakeup(self) -> float | None:
        """Returns when to ask, or when nobody has answered, in seconds; None if there is no question."""
        if not self.session:
            return None
        return self._ask_at + _LIMITS.contest_seconds if self._asked else self._ask_at

    def _is_over(self, now: float) -> bool:
        return self._asked and now >= self._ask_at + _LIMITS.contest_seconds


class Presence:
    """The status of this device, as the fleet knows it.

    Args:
        identity: Identity of the agent.
        coordinator: Presence of the broker and the coordinator.

    Attributes:
        echo_bytes: Random bytes that this agent has sent to itself since its start.
    """

    def __init__(self, identity: Identity, coordinator: CoordinatorPresence) -> None:
        self._identity = identity
        self._coordinator = coordinator
        self._topic = identity.topics.of("device", identity.device)
        self._facts: DeviceFacts | None = None
        self._leaving = False
        self._since: float | None = None
        self._now = 0.0
        self._revision = 0
        self._serving: ServingReport | None = None
        self._contest = NameContest()
        self._yields = False
        self.echo_bytes = 0

    def start(self) -> Effects:
        """Subscribes to what every agent listens to."""
        topics, device = self._identity.topics, self._identity.device
        return [
            Subscribe(topics.coordinator),
            Subscribe(self._topic),
            Subscribe(topics.of("down", device)),
            Subscribe(topics.of("repeat", device)),
        ]

    def tick(self, now: float) -> None:
        """Takes note of the time."""
        self._now = now

    def measured(self, facts: DeviceFacts) -> Effects:
        """Publishes the facts of the device, which has been measured."""
        self._facts = facts
        self._revision += 1
        return self.announce()

    def linked(self, rate: float) -> Effects:
        """Publishes the rate of the link, in bytes per second, which has been measured."""
        if self._facts is None:
            return []
        return self.measured(msgspec.structs.replace(self._facts, link_bytes_per_second=rate))

    def serving(self, report: ServingReport) -> Effects:
        """The installed model has answered requests: says so if it is news, for a status stays with the broker."""
        before, self._serving = self._serving, report
        news = before is None or (before.file, before.answers, before.refused) != (
            report.file,
            report.answers,
            report.refused,
        )
        return self.announce() if news else []

    def announce(self) -> Effects:
        """Publishes the status; nothing before the facts are known or while disconnected."""
        if self._facts is None or not self._coordinator.connected or self._leaving:
            return []
        if self._since is None:
            self._since = self._now
        message = status(self._identity, self._facts, settled=self._settled, revision=self._revision)
        message = msgspec.structs.replace(message, echo_bytes=self.echo_bytes, serving=self._serving)
        return [Publish(self._topic, message, retain=True)]

    @property
    def _settled(self) -> bool:
        return self._since is not None and self._now - self._since >= _LIMITS.settled_seconds

    def leave(self) -> Effects:
        """Says that the agent is ended, where the last will would say that it is offline; not under another's name."""
        if self._leaving:
            return []
        self._leaving = True
        goodbye = msgspec.structs.replace(status(self._identity, None), ended=True)
        return [Publish(self._topic, goodbye, retain=True)]

    def on_status(self, message: Status | None, retained: bool) -> Effects:
        """Takes a status under this device's name: an echo, one of an earlier life, or one of another agent.

        Args:
            message: Status; None for none, by which somebody removes what the broker has kept.
            retained: Whether the broker had kept it.
        """
        if message is None:
            return self.announce()
        mine = message.session == self._identity.session
        if mine and message.online:
            return []
        if mine or not message.online:
            # The last will of a lost connection, of this life or an earlier one, has overwritten the status.
            return self.announce()
        return [] if retained else self._foreign(message)

    def _foreign(self, message: Status) -> Effects:
        """Takes a status of another agent with this name, or a copy of one that is not there any more."""
        is_there = self._contest.heard(message.session, self._now)
        self._yields = (message.settled, self._identity.session) > (self._settled, message.session)
        if not is_there:
            return [] if self._yields else self.announce()
        if not self._yields:
            text = f'another agent tried to join as device "{self._identity.device}"; it is told to stop'
            return [Log(text, warning=True), *self.announce()]
        self._leaving = True  # the name is the other agent's: not even an offline status under it
        host = f" on {message.facts.hostname}" if message.facts and message.facts.hostname else ""
        text = f'another agent{host} is already connected as device "{self._identity.device}"'
        return [Stop(f"{text}; give this one an --id of its own")]

    @property
    def contested(self) -> bool:
        """Whether the name may be another agent's, whose tasks this one must not take."""
        return self._yields and bool(self._contest.session)

    def next_wakeup(self) -> float | None:
        """Returns when ``poll`` is due, in seconds; None if it is not."""
        return self._contest.next_wakeup()

    def poll(self) -> Effects:
        """Asks another agent that seems to have this name whether it is there, once it is time."""
        return self.announce() if self._contest.ask(self._now) else []


def status(identity: Identity, facts: DeviceFacts | None, *, settled: bool = False, revision: int = 0) -> Status:
    """Returns the status message; without facts it says that the device is offline, as the last will does."""
    return Status(
        device=identity.device,
        online=facts is not None,
        session=identity.session,
        facts=facts,
        settled=settled,
        revision=revision,
        version=__version__,
    )
