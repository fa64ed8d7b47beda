"""paho's client with less work for each packet: what it decodes itself, and what it leaves to paho."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fedlp_edge.transport.address import Protocol
from fedlp_edge.transport.base import Delivered, Received
from tests.transport.clients import Client
from tests.transport.played import CONNACK_5, CONNACK_311, Wire, played

ONE_AT_QOS_1 = bytes((0x32,))
TOPIC = b"\x00\x01t"


def received(packet: bytes, answers: int, protocol: Protocol) -> tuple[list[Received], list[bytes]]:
    """What a client makes of packets of the broker, and what it answers."""
    answered: list[bytes] = []

    def broker(wire: Wire) -> None:
        wire.read()
        wire.send(CONNACK_5 if protocol == "5" else CONNACK_311)
        for byte in packet[:40]:  # a socket may bring any part of a packet
            wire.send(bytes((byte,)))
        wire.send(packet[40:])
        answered.extend(wire.read() for _ in range(answers))
        wire.send((b"\x30\x06" + TOPIC + b"\x00<>") if protocol == "5" else (b"\x30\x05" + TOPIC + b"<>"))
        wire.read()

    messages: list[Received] = []
    with played(broker, protocol=protocol) as address:
        client = Client(address, "lean").start()
        while not messages or messages[-1].payload != b"<>":
            messages.append(client.wait(Received))
        client.transport.stop()
    return messages[:-1], answered


@pytest.mark.parametrize("payload", [b"", b"!", bytes(range(250)) * 1200], ids=["empty", "short", "300 kB"])
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize(("first", "retained"), [(0x32, False), (0x33, True), (0x3A, False)])
def test_message_at_qos_1_is_received_and_acknowledged(
    first: int, retained: bool, protocol: Protocol, payload: bytes
) -> None:
    body = TOPIC + b"\x01\x02" + (b"\x00" if protocol == "5" else b"") + payload
    messages, answers = received(bytes((first,)) + _length(len(body)) + body, 1, protocol)
    assert messages == [Received("t", payload, retained)]
    assert answers == [b"\x40\x02\x01\x02"]


def test_message_with_properties_is_received_as_paho_decodes_it() -> None:
    body = TOPIC + b"\x00\x07" + b"\x05\x02\x00\x00\x00\x09" + b"late"  # expires after nine seconds
    messages, answers = received(ONE_AT_QOS_1 + _length(len(body)) + body, 1, "5")
    assert (messages, answers) == ([Received("t", b"late", False)], [b"\x40\x02\x00\x07"])


@pytest.mark.parametrize(
    "packet", [b"\x32\x01\x00", b"\x32\x02\x00\x09", b"\x32\x05\x00\x01t\x00\x01"], ids=["cut", "topic", "properties"]
)
def test_malformed_message_ends_the_connection_and_nothing_else(packet: bytes) -> None:
    def broken(wire: Wire) -> None:
        wire.read()
        wire.send(CONNACK_5)
        wire.send(packet)
        while wire.read():
            pass

    def whole(wire: Wire) -> None:
        wire.read()
        wire.send(CONNACK_5)
        wire.send(b"\x32\x07" + TOPIC + b"\x00\x01\x00!")
        wire.read()

    with played(broken, whole, protocol="5") as address:
        client = Client(address, "lean").start()
        assert client.wait(Received) == Received("t", b"!", False)
        client.transport.stop()


@pytest.mark.parametrize(
    "answer",
    [lambda number: b"\x40\x02" + number, lambda number: b"\x40\x03" + number + b"\x10"],
    ids=["plain", "no subscriber"],
)
def test_acknowledgement_delivers_once_and_one_of_nothing_is_ignored(answer: Callable[[bytes], bytes]) -> None:
    def acknowledge(wire: Wire) -> None:
        wire.read()
        wire.send(CONNACK_5)
        first = wire.read()[5:7]
        wire.send(b"\x40\x02\xff\xfe" + answer(first) + answer(first))
        wire.send(answer(wire.read()[5:7]))
        wire.read()

    with played(acknowledge, protocol="5") as address:
        client = Client(address, "lean").start()
        tokens = [client.transport.publish("t", b"1")]
        assert client.wait(Delivered).token == tokens[0]
        tokens.append(client.transport.publish("t", b"2"))
        assert client.wait(Delivered).token == tokens[1]
        client.transport.stop()


def _length(size: int) -> bytes:
    """The bytes of a packet's length."""
    digits = bytearray()
    while not digits or size:
        digits.append(size & 0x7F | (0x80 if size > 0x7F else 0))
        size >>= 7
    return bytes(digits)
