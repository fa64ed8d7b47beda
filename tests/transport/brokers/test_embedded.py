"""The broker that runs within the process."""

from __future__ import annotations

import builtins

import pytest

from fedlp_edge.errors import OperatorError
from fedlp_edge.transport.brokers.embedded import EmbeddedBroker


def test_embedded_broker_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_amqtt(name: str, *arguments: object) -> object:
        if name.startswith("amqtt"):
            raise ModuleNotFoundError(name)
        return real(name, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_amqtt)
    with pytest.raises(OperatorError, match=r'pip install "fedlp-edge\[broker\]"'):
        EmbeddedBroker().start()
