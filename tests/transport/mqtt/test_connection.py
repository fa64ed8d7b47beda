"""One MQTT connection, with a broker that the test plays; see test_transport_faults for what follows from its end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from fedlp_edge.errors import BrokerError
from fedlp_edge.transport.address import BrokerAddress, Protocol
from fedlp_edge.transport.base import BrokerLimits
from fedlp_edge.transport.mqtt import certificates
from fedlp_edge.transport.mqtt.connection import (
    ConnectionEvents,
    ConnectionLostError,
    MqttConnection,
    OlderProtocolError,
)
from tests.transport.played import CONNACK_5, CONNACK_311, Wire, played


@pytest.fixture(autouse=True)
def short_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has hung up is asked once more whether it speaks TLS, and these brokers do not even answer."""
    monkeypatch.setattr(certificates, "ASK_SECONDS", 0.1)


class Noted:
    """What a connection said."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes, bool]] = []
        self.published: list[tuple[int, int, str]] = []
        self.subscribed: list[tuple[int, list[tuple[int, str]]]] = []

    @property
    def events(self) -> ConnectionEvents:
        return ConnectionEvents(
            lambda *message: self.messages.append(message),
            lambda *puback: self.published.append(puback),
            lambda *suback: self.subscribed.append(suback),
        )


@contextmanager
def opened(address: BrokerAddress, noted: Noted, version: str = "5") -> Iterator[tuple[MqttConnection, BrokerLimits]]:
    """A connection, aborted at the end."""
    connection = MqttConnection(address, noted.events, context=None, client_id="c", will=None, version=version)
    wake, other = socket.socketpair()
    with wake, other:
        try:
            yield connection, connection.open(wake, threading.Event())
        finally:
            connection.abort()


def until(connection: MqttConnection, done: Callable[[], object]) -> None:
    for _ in range(100):
        if done():
            return
        connection.step(0.1)
    raise AssertionError("the broker did not answer")


def test_first_packet_says_the_version_and_the_client() -> None:
    hello: list[bytes] = []

    def answer(wire: Wire) -> None:
        hello.append(wire.read())
        wire.send(CONNACK_311)
        wire.read()

    with played(answer) as address, opened(address, Noted(), "3.1.1") as (_, limits):
        assert limits.protocol == "3.1.1"
    assert hello[0][2:9] == b"\x00\x04MQTT\x04"
    assert hello[0].endswith(b"\x00\x01c")


def test_messages_and_answers_reach_the_callbacks() -> None:
    def broker(wire: Wire) -> None:
        wire.read()
        wire.send(CONNACK_5)
        subscribe = wire.read()
        wire.send(b"\x90\x04" + subscribe[2:4] + b"\x00\x01")
        publish = wire.read()
        wire.send(b"\x40\x03" + publish[5:7] + b"\x87")  # not authorised
        wire.send(b"\x31\x05\x00\x01t\x00!")  # retained, QoS 0
        wire.read()

    noted = Noted()
    with played(broker) as address, opened(address, noted) as (connection, _):
        asked = connection.subscribe(["t"])
        until(connection, lambda: noted.subscribed)
        number = connection.publish("p", b"?", retain=False)
        until(connection, lambda: noted.messages)
    assert noted.subscribed == [(asked, [(1, "Granted QoS 1")])]
    assert noted.published == [(number, 0x87, "Not authorized")]
    assert noted.messages == [("t", b"!", True)]


def test_reason_of_the_broker_comes_with_the_end() -> None:
    def end(wire: Wire) -> None:
        wire.read()
        wire.send(CONNACK_5)
        wire.send(b"\xe0\x02\x8e\x00")

    with (
        played(end) as address,
        opened(address, Noted()) as (connection, _),
        pytest.raises(ConnectionLostError) as lost,
    ):
        until(connection, lambda: False)
    assert (str(lost.value), lost.value.code) == ("the broker ended the connection: Session taken over", 0x8E)


@pytest.mark.parametrize(
    ("answer", "protocol", "error"),
    [
        (b"", "auto", OlderProtocolError),
        (b"", "5", BrokerError),
        (b"\x20\x03\x00\x84\x00", "auto", OlderProtocolError),
        (b"\x20\x03\x00\x87\x00", "auto", BrokerError),
    ],
    ids=["hangs-up", "hangs-up-configured", "unsupported-version", "not-authorised"],
)
def test_broker_that_takes_no_connection_is_told_from_an_older_one(
    answer: bytes, protocol: Protocol, error: type[Exception]
) -> None:
    def refuse(wire: Wire) -> None:
        wire.read()
        wire.send(answer)

    with played(refuse, protocol=protocol) as address, pytest.raises(error), opened(address, Noted()):
        pass


def test_connecting_ends_when_it_is_told_to() -> None:
    stopping = threading.Event()
    stopping.set()

    def silent(wire: Wire) -> None:
        while wire.read():
            pass

    wake, other = socket.socketpair()
    with played(silent, protocol="5") as address, wake, other:
        connection = MqttConnection(address, Noted().events, context=None, client_id="c", will=None, version="5")
        try:
            with pytest.raises(BrokerError, match=r"^stopped before the broker answered$"):
                connection.open(wake, stopping)
        finally:
            connection.abort()


def test_close_says_goodbye_so_that_no_last_will_is_published() -> None:
    last: list[bytes] = []

    def listen(wire: Wire) -> None:
        wire.read()
        wire.send(CONNACK_5)
        last.append(wire.read())

    with played(listen) as address, opened(address, Noted()) as (connection, _):
        connection.close()
    assert last[0][0] == 0xE0  # DISCONNECT


def test_aborted_connection_ends_without_a_word() -> None:
    last: list[bytes] = []

    def listen(wire: Wire) -> None:
        wire.read()
        wire.send(CONNACK_5)
        last.append(wire.read())

    with played(listen) as address, opened(address, Noted()):
        pass
    assert last == [b""]


def test_broker_that_is_gone_cannot_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = BrokerAddress("127.0.0.1", server.getsockname()[1])
    with pytest.raises(BrokerError, match="nothing listens"), opened(address, Noted()):
        pass
