"""Mosquitto as a process of its own."""

from __future__ import annotations

import pytest

from fedlp_edge.errors import OperatorError
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker, find_mosquitto


def test_mosquitto_is_found_outside_the_path_and_missed_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_mosquitto().endswith("/mosquitto")

    monkeypatch.setattr("fedlp_edge.transport.brokers.mosquitto._PLACES", ("/nowhere",))
    with pytest.raises(OperatorError, match="apt-get install mosquitto"):
        MosquittoBroker().start()


def test_mosquitto_tells_what_is_wrong_with_its_configuration() -> None:
    with pytest.raises(OperatorError, match="no_such_option"):
        MosquittoBroker(extra=["no_such_option 1"]).start()
