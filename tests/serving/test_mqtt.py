"""Requests and answers over a hub in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fedlp_edge.serving import mqtt
from fedlp_edge.serving.mqtt import MqttServer
from fedlp_edge.serving.served_model import ServedModel
from fedlp_edge.transport.base import Received, TransportEvent
from fedlp_edge.transport.in_memory import MemoryHub
from tests.serving.model_file import write_model

Answers = dict[str, dict[str, object]]


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., Answers]:
    """Publishes requests to a served model; returns what is published by topic, once all are answered."""
    hub = MemoryHub(immediate=True)
    server = MqttServer(ServedModel(write_model(tmp_path / "model.onnx")), hub.transport("server"), "home/door/")

    def asked(*requests: tuple[str, bytes], expected: int) -> Answers:
        client, heard = hub.transport("client"), {}

        def hear(event: TransportEvent) -> None:
            if isinstance(event, Received):
                heard[event.topic] = json.loads(event.payload)

        client.start(hear)
        client.subscribe("home/door/answer/#")
        waiting = list(requests)

        def stopped() -> bool:
            for topic, payload in waiting:
                client.publish(topic, payload)
            waiting.clear()
            return len(heard) == expected

        server.run(stopped)
        return heard | {topic: json.loads(payload) for topic, payload in hub.retained.items()}

    return asked


def test_every_request_is_answered_beside_its_topic(ask: Callable[..., Answers]) -> None:
    answers = ask(("home/door/infer/7", b"[1, 2, 1]"), ("home/door/infer", b"[0, 0, 9]"), expected=2)
    assert answers["home/door/answer/7"]["label"] == "nut"
    assert answers["home/door/answer"]["label"] == "bolt"


def test_a_bad_request_is_answered_too(ask: Callable[..., Answers]) -> None:
    answers = ask(("home/door/infer/1", b"[1]"), expected=1)
    assert answers["home/door/answer/1"] == {"error": "the request holds float32 [1]; the model takes one sample of 3"}


def test_what_cannot_wait_is_told_so(ask: Callable[..., Answers]) -> None:
    requests = [(f"home/door/infer/{number}", b"[1, 2, 1]") for number in range(mqtt.MAX_WAITING + 1)]
    answers = ask(*requests, expected=len(requests))
    assert answers[f"home/door/answer/{mqtt.MAX_WAITING}"] == {"error": "64 requests are waiting; try again later"}
    assert "label" in answers["home/door/answer/0"]


def test_statistics_are_retained_beside_the_requests(ask: Callable[..., Answers]) -> None:
    answers = ask(("home/door/infer/1", b"[1, 2, 1]"), expected=1)
    assert answers["home/door/statistics"]["answers"] == 0  # published at the start, and every minute
