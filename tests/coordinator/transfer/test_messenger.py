from __future__ import annotations

from coordinator.transfer.messenger import ControlMessenger, last_will
from fedlp_edge.reporting.summary import Traffic
from fedlp_edge.transport.in_memory import MemoryHub
from fedlp_edge.wire.messages import Announcement, Decoder, RunEnded, encode
from fedlp_edge.wire.topics import Topics


def test_counts_what_is_said_and_what_others_report_until_it_is_taken() -> None:
    messenger = ControlMessenger(MemoryHub().transport("coordinator"), Topics("demo"), "run")
    message = RunEnded(run="run", device="pi", rounds=3)
    messenger.tell(message)
    messenger.count("update", 1000)
    messenger.count("update", 24)
    messenger.count("repeat", 7)

    assert messenger.take_traffic() == {
        "control": Traffic(len(encode(message)), 1),
        "model": Traffic(0, 0),
        "update": Traffic(1024, 2),
        "repeat": Traffic(7, 1),
        "direct": Traffic(0, 0),
        "echo": Traffic(0, 0),
    }
    assert set(messenger.take_traffic().values()) == {Traffic()}


def test_counts_announcements_as_control() -> None:
    messenger = ControlMessenger(MemoryHub().transport("coordinator"), Topics("demo"), "run")
    messenger.announce("running")

    assert messenger.take_traffic()["control"].messages == 1


def test_repeats_its_announcement_when_the_goodbye_of_an_earlier_life_has_covered_it() -> None:
    hub, topics = MemoryHub(), Topics("demo")
    transport = hub.transport("coordinator")
    transport.start(lambda _: None)
    messenger = ControlMessenger(transport, topics, "run")
    messenger.announce("running")
    read = Decoder[Announcement](Announcement, 1 << 16)
    goodbye = last_will(topics, "run").payload
    transport.publish(topics.coordinator, goodbye, retain=True)

    messenger.overhear(read(goodbye))  # type: ignore[arg-type]

    word = read(hub.retained[topics.coordinator])
    assert isinstance(word, Announcement)
    assert (word.online, word.state) == (True, "running")
    messenger.overhear(word)
    assert messenger.take_traffic()["control"].messages == 2
