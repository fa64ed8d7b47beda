from __future__ import annotations

from coordinator.voice import Voice, last_will
from fedlp_edge.reporting.summary import Traffic
from fedlp_edge.transport.memory import MemoryHub
from fedlp_edge.wire.messages import Announcement, Farewell, decoder, encode
from fedlp_edge.wire.topics import Topics


def test_counts_what_is_said_and_what_others_report_until_it_is_taken() -> None:
    voice = Voice(MemoryHub().transport("coordinator"), Topics("demo"), "run")
    message = Farewell(run="run", device="pi", rounds=3)
    voice.tell(message)
    voice.count("update", 1000)
    voice.count("update", 24)
    voice.count("repeat", 7)

    assert voice.take_traffic() == {
        "control": Traffic(len(encode(message)), 1),
        "model": Traffic(0, 0),
        "update": Traffic(1024, 2),
        "repeat": Traffic(7, 1),
    }
    assert set(voice.take_traffic().values()) == {Traffic()}


def test_counts_announcements_as_control() -> None:
    voice = Voice(MemoryHub().transport("coordinator"), Topics("demo"), "run")
    voice.announce("running")

    assert voice.take_traffic()["control"].messages == 1


def test_repeats_its_announcement_when_the_goodbye_of_an_earlier_life_has_covered_it() -> None:
    hub, topics = MemoryHub(), Topics("demo")
    transport = hub.transport("coordinator")
    transport.start(lambda _: None)
    voice = Voice(transport, topics, "run")
    voice.announce("running")
    read = decoder(Announcement, 1 << 16)
    goodbye = last_will(topics, "run").payload
    transport.publish(topics.coordinator, goodbye, retain=True)

    voice.overhear(read(goodbye))  # type: ignore[arg-type]

    word = read(hub.retained[topics.coordinator])
    assert isinstance(word, Announcement)
    assert (word.online, word.state) == (True, "running")
    voice.overhear(word)
    assert voice.take_traffic()["control"].messages == 2
