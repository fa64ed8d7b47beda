"""A client for measuring brokers, on a real one."""

from __future__ import annotations

import dataclasses
import re
import socket

import pytest

from fedlp_edge.errors import BrokerError
from fedlp_edge.transport.address import BrokerAddress
from fedlp_edge.transport.base import LastWill
from fedlp_edge.transport.diagnostics.client import DiagnosticClient, ReceivedMessage

TOPIC = "fedlp/diagnostics/client"


def client(address: BrokerAddress, name: str, **options: object) -> DiagnosticClient:
    return DiagnosticClient(address, "5", f"diagnostics-{name}", **options)  # type: ignore[arg-type]


def test_message_arrives_as_it_was_sent(address: BrokerAddress) -> None:
    with client(address, "sender") as sender, client(address, "reader") as reader:
        assert reader.subscribe(TOPIC) == ""
        assert sender.refusal(sender.publish(TOPIC, b"1")) == ""
        assert reader.next() == ReceivedMessage(TOPIC, b"1", retained=False)
        assert reader.next(0.0) is None
        assert (sender.alive, reader.alive) == (True, True)


def test_held_messages_are_acknowledged_when_they_are_released(address: BrokerAddress) -> None:
    with client(address, "sender") as sender, client(address, "holding", hold=True) as reader:
        reader.subscribe(f"{TOPIC}/held")
        for number in range(25):  # Mosquitto sends 20 without an acknowledgement
            sender.publish(f"{TOPIC}/held", bytes([number]))
        assert [reader.next().payload[0] for _ in range(20)] == list(range(20))  # type: ignore[union-attr]
        assert reader.next(0.05) is None
        reader.release()
        assert [reader.next().payload[0] for _ in range(5)] == [20, 21, 22, 23, 24]  # type: ignore[union-attr]


def test_cut_connection_makes_the_broker_publish_the_last_will(address: BrokerAddress) -> None:
    with client(address, "watcher") as watcher:
        watcher.subscribe(f"{TOPIC}/will")
        cut = client(address, "cut", will=LastWill(f"{TOPIC}/will", b"gone"))
        cut.__enter__()
        cut.drop_connection()
        message = watcher.next()
    assert message is not None
    assert message.payload == b"gone"
    assert cut.subscribe(TOPIC) == "the broker ended the connection"


def test_broker_that_is_gone_is_named(address: BrokerAddress) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    gone = dataclasses.replace(address, port=port)
    with pytest.raises(BrokerError, match=f"^cannot connect to the broker at {re.escape(gone.url)} again: "):
        client(gone, "late").__enter__()
