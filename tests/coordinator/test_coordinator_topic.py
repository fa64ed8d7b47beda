from __future__ import annotations

import queue
from dataclasses import replace

import pytest

from coordinator.coordinator_topic import CoordinatorTopic, first_connection
from coordinator.inbox import InboxItem, StopRequested
from coordinator.limits import LIMITS
from coordinator.topic_claim import TopicClaimedError
from coordinator.transfer.messenger import ControlMessenger
from fedlp_edge.errors import PeerError
from fedlp_edge.transport.base import Connected, Received, TransportEvent
from fedlp_edge.transport.in_memory import MEMORY_LIMITS, MemoryHub
from fedlp_edge.wire.messages import Announcement, Claim, Decoder, encode
from fedlp_edge.wire.topics import Topics


class Coordinator:
    """A coordinator that hears all that is published on the common topic, itself included."""

    def __init__(self, hub: MemoryHub, name: str) -> None:
        self.now = 0.0
        self.heard: list[object] = []
        self._read = Decoder[Announcement | Claim](Announcement | Claim, 1 << 16)
        transport = hub.transport(name)
        self.messenger = ControlMessenger(transport, Topics("demo"), name)
        self.topic = CoordinatorTopic(self.messenger, name, lambda: self.now)
        transport.start(self._receive)
        transport.subscribe(Topics("demo").coordinator)

    def _receive(self, event: TransportEvent) -> None:
        if isinstance(event, Received):
            if event.payload:
                self.heard.append(self._read(event.payload))
            self.topic.receive(event.payload, retained=event.retained)


def test_is_at_work_once_its_own_question_has_come_back() -> None:
    hub = MemoryHub()
    one = Coordinator(hub, "one")
    one.topic.ask()
    assert one.topic.seconds_left == LIMITS.echo_seconds
    assert not one.topic.answered()
    hub.deliver()
    assert one.heard == [Claim(session=one.messenger.session, run="one")]
    assert one.topic.seconds_left == 0.0
    assert (one.topic.answered(), one.topic.settled) == (True, True)


def test_ends_the_one_that_asks_where_another_is_at_work() -> None:
    hub = MemoryHub()
    one = Coordinator(hub, "one")
    one.topic.ask()
    hub.deliver()
    assert one.topic.answered()
    two = Coordinator(hub, "two")
    two.topic.ask()
    with pytest.raises(TopicClaimedError) as occupied:
        hub.deliver()
    assert occupied.value.args == ("one",)
    assert not two.topic.settled


def test_says_again_where_the_run_stands_when_an_old_last_will_covers_it() -> None:
    hub = MemoryHub()
    one = Coordinator(hub, "one")
    one.topic.ask()
    hub.deliver()
    assert one.topic.answered()
    one.messenger.announce("running")
    gone = Announcement(online=False, run="one", session="gone", state="offline")
    one.topic.receive(encode(gone), retained=True)
    hub.deliver()
    assert [word for word in one.heard if isinstance(word, Announcement)] == [
        Announcement(online=True, run="one", session=one.messenger.session, state="running")
    ]
    one.topic.receive(encode(gone), retained=False)
    hub.deliver()
    assert len([word for word in one.heard if isinstance(word, Announcement)]) == 2


def test_says_again_where_the_run_stands_when_somebody_removes_it_from_the_broker() -> None:
    hub = MemoryHub()
    one = Coordinator(hub, "one")
    one.topic.receive(b"", retained=False)
    one.topic.ask()
    hub.deliver()
    assert one.topic.answered()
    assert [word for word in one.heard if isinstance(word, Announcement)] == []
    one.topic.receive(b"", retained=False)
    hub.deliver()
    assert [word.online for word in one.heard if isinstance(word, Announcement)] == [True]


def test_reads_nothing_but_claims_and_announcements() -> None:
    one = Coordinator(MemoryHub(), "one")
    one.topic.receive(b"", retained=True)
    with pytest.raises(PeerError, match=r"^malformed control message: "):
        one.topic.receive(b"{}", retained=False)
    with pytest.raises(PeerError) as refused:
        one.topic.receive(b"x" * (LIMITS.control_bytes + 1), retained=False)
    assert str(refused.value) == "control message of 1048577 bytes is over the limit of 1048576"


def test_broker_that_is_not_there_is_said_once_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.coordinator_topic.LIMITS", replace(LIMITS, broker_seconds=0.0))
    inbox: queue.SimpleQueue[InboxItem] = queue.SimpleQueue()
    said: list[str] = []

    def waits() -> None:
        said.append("waits")
        inbox.put(Connected(MEMORY_LIMITS))

    assert first_connection(inbox, waits) == MEMORY_LIMITS
    assert said == ["waits"]
    inbox.put(StopRequested())
    assert first_connection(inbox, waits) is None
