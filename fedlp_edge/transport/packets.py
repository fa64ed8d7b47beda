"""The packets of MQTT that a client at QoS 1 sends and gets, as bytes: versions 3.1.1 and 5, nothing that is not used.

Written by hand because of the payloads: most of what a fleet exchanges are packets of 128 KiB, and a general client
copies each several times. Here a packet to be published is a short head, followed by the payload from where it lies;
one that arrives is a view (docs/adr/0010-packets-of-our-own.md has the figures).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fedlp_edge.transport.base import LastWill

PING: Final = bytes((0xC0, 0))
GOODBYE: Final = bytes((0xE0, 0))
REFUSED: Final = 0x80
"""Reason codes from here on are refusals."""

_MOST_REMAINING = 268_435_455

_NEWEST = "5"
_RECEIVE_MAXIMUM, _MAXIMUM_QOS, _RETAIN_AVAILABLE, _MAXIMUM_PACKET_SIZE, _SERVER_KEEP_ALIVE = (
    0x21,
    0x24,
    0x25,
    0x27,
    0x13,
)
# What a CONNACK may hold besides: numbers and their bytes; texts, each behind two bytes of length.
_NUMBERS = {0x11: 4, 0x13: 2, 0x21: 2, 0x22: 2, 0x24: 1, 0x25: 1, 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1}
_TEXTS = {0x12: 1, 0x15: 1, 0x16: 1, 0x1A: 1, 0x1C: 1, 0x1F: 1, 0x26: 2}

# What MQTT 3.1.1 answers a CONNECT with, as reason codes of MQTT 5.
_OLDER_ANSWERS = {1: 0x84, 2: 0x85, 3: 0x88, 4: 0x86, 5: 0x87}


class MalformedPacket(Exception):
    """The other side does not speak MQTT."""


@dataclass(frozen=True, slots=True)
class ConnAck:
    """The broker's answer to CONNECT.

    Attributes:
        code: of MQTT 5, whichever version answers.
        max_packet_bytes: as announced; None if it was not. So for the others.
    """

    code: int
    max_packet_bytes: int | None = None
    receive_maximum: int | None = None
    maximum_qos: int | None = None
    retain_available: int | None = None
    keepalive: int | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """A message from the broker.

    Attributes:
        topic: None if it is no text.
        payload: a view of the packet.
        packet_id: to acknowledge it with; None if it wants no acknowledgement.
        retained: whether the broker had kept it.
    """

    topic: str | None
    payload: memoryview
    packet_id: int | None
    retained: bool


@dataclass(frozen=True, slots=True)
class PubAck:
    """The broker's answer to a PUBLISH."""

    packet_id: int
    code: int


@dataclass(frozen=True, slots=True)
class SubAck:
    """The broker's answer to a SUBSCRIBE, with one code per filter."""

    packet_id: int
    codes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class UnsubAck:
    """The broker's answer to an UNSUBSCRIBE."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class Pong:
    """The broker's answer to a ping."""


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The broker ends the connection, and says why."""

    code: int


FromBroker = ConnAck | Published | PubAck | SubAck | UnsubAck | Pong | Goodbye


# To the broker


def connect(
    version: str,
    client_id: str,
    keepalive: int,
    *,
    username: str | None,
    password: str | None,
    will: LastWill | None,
    max_packet_bytes: int,
) -> bytes:
    """A CONNECT with a clean session.

    Args:
        version: ``"5"`` or ``"3.1.1"``.
        client_id: must differ between all clients of the broker.
        keepalive: seconds.
        username: to log in with.
        password: likewise.
        will: left with the broker, retained, at QoS 1.
        max_packet_bytes: largest packet that the broker may send; only MQTT 5 can say so.
    """
    newest = version == _NEWEST
    flags = 0x02 | (0x2C if will else 0) | (0x80 if username is not None else 0) | (0x40 if password is not None else 0)
    body = _text("MQTT") + bytes((5 if newest else 4, flags)) + keepalive.to_bytes(2)
    if newest:
        body += bytes((5, _MAXIMUM_PACKET_SIZE)) + max_packet_bytes.to_bytes(4)
    body += _text(client_id)
    if will is not None:
        body += (b"\0" if newest else b"") + _text(will.topic) + len(will.payload).to_bytes(2) + will.payload
    for word in (username, password):
        if word is not None:
            body += _text(word)
    return _packet(0x10, body)


def publish_head(version: str, topic: str, packet_id: int, nbytes: int, *, retain: bool) -> bytes:
    """What goes before a payload of ``nbytes`` bytes that is published at QoS 1.

    Raises:
        ValueError: it is longer than MQTT can say.
    """
    properties = _no_properties(version)
    head = _text(topic) + packet_id.to_bytes(2) + properties
    return bytes((0x33 if retain else 0x32,)) + _length(len(head) + nbytes) + head


def acknowledge(packet_id: int) -> bytes:
    """A PUBACK."""
    return bytes((0x40, 2)) + packet_id.to_bytes(2)


def subscribe(version: str, packet_id: int, topics: Sequence[str]) -> bytes:
    """A SUBSCRIBE at QoS 1."""
    properties = _no_properties(version)
    return _packet(0x82, packet_id.to_bytes(2) + properties + b"".join(_text(topic) + b"\1" for topic in topics))


def unsubscribe(version: str, packet_id: int, topic: str) -> bytes:
    """An UNSUBSCRIBE."""
    properties = _no_properties(version)
    return _packet(0xA2, packet_id.to_bytes(2) + properties + _text(topic))


# From the broker


def read(version: str, first: int, body: memoryview) -> FromBroker:
    """The content of a packet.

    Args:
        version: of MQTT that the connection speaks.
        first: the packet's first byte: type and flags.
        body: what follows its length.

    Raises:
        MalformedPacket: it is nothing that a broker sends to such a client.
    """
    packet: FromBroker
    match first >> 4:
        case 3:
            packet = _published(version, first, body)
        case 4 if len(body) >= 2:
            packet = PubAck(int.from_bytes(body[:2]), body[2] if len(body) > 2 else 0)
        case 9 if len(body) >= 3:
            packet = SubAck(int.from_bytes(body[:2]), tuple(_after_properties(version, body[2:])))
        case 11 if len(body) >= 2:
            packet = UnsubAck(int.from_bytes(body[:2]))
        case 13:
            packet = Pong()
        case 2 if len(body) >= 2:
            packet = _connack(version, body)
        case 14:
            packet = Goodbye(body[0] if body else 0)
        case _:
            raise MalformedPacket
    return packet


def read_head(data: memoryview) -> tuple[int, int, int] | None:
    """First byte, bytes of the rest and bytes of the head of the packet that ``data`` begins; None if it ends early."""
    if len(data) < 2:
        return None
    if data[1] < 0x80:  # the usual case of all but published chunks
        return data[0], data[1], 2
    try:
        length, digits = _read_length(data[1:])
    except MalformedPacket:
        if len(data) > 4:
            raise
        return None
    return data[0], length, 1 + digits


def _published(version: str, first: int, body: memoryview) -> Published:
    start = 2 + int.from_bytes(body[:2])
    packet_id, rest = None, body[start:]
    if first & 0x06:
        packet_id, rest = int.from_bytes(rest[:2]), rest[2:]
        start += 2
    if start > len(body):
        raise MalformedPacket
    try:
        topic = str(body[2 : 2 + int.from_bytes(body[:2])], "utf-8")
    except UnicodeDecodeError:
        topic = None
    return Published(topic, _after_properties(version, rest), packet_id, bool(first & 1))


def _connack(version: str, body: memoryview) -> ConnAck:
    code = _OLDER_ANSWERS.get(body[1], body[1])
    # A broker of 3.1.1 answers MQTT 5 in its own format, without properties.
    if version != _NEWEST or len(body) == 2:
        return ConnAck(code)
    found = _properties(body[2:])
    return ConnAck(
        code,
        max_packet_bytes=found.get(_MAXIMUM_PACKET_SIZE),
        receive_maximum=found.get(_RECEIVE_MAXIMUM),
        maximum_qos=found.get(_MAXIMUM_QOS),
        retain_available=found.get(_RETAIN_AVAILABLE),
        keepalive=found.get(_SERVER_KEEP_ALIVE),
    )


def _after_properties(version: str, data: memoryview) -> memoryview:
    """What follows the properties, which only MQTT 5 has."""
    if version != _NEWEST:
        return data
    length, digits = _read_length(data)
    if digits + length > len(data):
        raise MalformedPacket
    return data[digits + length :]


def _text(text: str) -> bytes:
    raw = text.encode()
    return len(raw).to_bytes(2) + raw


def _no_properties(version: str) -> bytes:
    return b"\0" if version == _NEWEST else b""


def _packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + _length(len(body)) + body


def _length(value: int) -> bytes:
    if value > _MOST_REMAINING:
        raise ValueError(f"{value} bytes are more than a packet of MQTT holds")
    out = bytearray()
    while True:
        value, low = divmod(value, 128)
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def _read_length(data: memoryview) -> tuple[int, int]:
    """A length of up to four digits of seven bits, and how many digits it has."""
    value = 0
    for place, digit in enumerate(data[:4]):
        value |= (digit & 0x7F) << (7 * place)
        if digit < 0x80:
            return value, place + 1
    raise MalformedPacket


def _properties(data: memoryview) -> dict[int, int]:
    """Those of a CONNACK that are numbers."""
    length, digits = _read_length(data)
    rest = data[digits : digits + length]
    found: dict[int, int] = {}
    while rest:
        name, rest = rest[0], rest[1:]
        if name in _NUMBERS:
            size = _NUMBERS[name]
            found[name], rest = int.from_bytes(rest[:size]), rest[size:]
        elif name in _TEXTS:
            for _ in range(_TEXTS[name]):
                rest = rest[2 + int.from_bytes(rest[:2]) :]
        else:
            raise MalformedPacket
    return found
