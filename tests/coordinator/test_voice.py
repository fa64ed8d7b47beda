from __future__ import annotations

from coordinator.voice import Voice
from fedlp_edge.reporting.summary import Traffic
from fedlp_edge.transport.memory import MemoryHub
from fedlp_edge.wire.messages import Farewell, encode
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
