"""MQTT 3.1.1 at QoS 1, lean enough for hundreds of connections in one thread.

A load generator shares the machine with what it measures, and paho takes about as long for a packet as the
coordinator does. This speaks what a load needs and no more: no TLS, no login, no session, no QoS 2.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Iterable, Iterator

from fedlp_edge.transport.base import BrokerLimits, Connected, Delivered, LastWill, Received, Subscribed, TransportEvent

KEEPALIVE_SECONDS = 60
_READ_BYTES = 1 << 18
_PACKET_IDS = 0xFFFF

_CONNACK, _PUBLISH, _PUBACK, _SUBACK = 0x20, 0x30, 0x40, 0x90
_SUBSCRIBE, _UNSUBSCRIBE, _CONNECT = 0x82, 0xA2, 0x10
_PING = bytes((0xC0, 0))
_GOODBYE = bytes((0xE0, 0))
_ANSWER = struct.Struct(">BBH")


class Connection:
    """One connection without blocking; the caller waits on ``fileno`` and calls ``receive`` and ``send``.

    Args:
        host: of the broker.
        port: of the broker.
        client_id: must differ between all clients of the broker.
        topics: subscribed to at once; Connected comes when the broker has confirmed them.
        will: left with the broker.

    Raises:
        OSError: nothing listens there; any method may raise it once the connection is lost.
    """

    def __init__(
        self, host: str, port: int, client_id: str, topics: Iterable[str] = (), will: LastWill | None = None
    ) -> None:
        self._socket = socket.create_connection((host, port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self._in = bytearray()
        self._out: deque[memoryview] = deque()
        self._ids = _packet_ids()
        self._asked: dict[int, tuple[str, ...]] = {}
        self._write(_connect(client_id, will))
        self._first = self.subscribe(*topics)

    def fileno(self) -> int:
        """Of the socket, for a selector."""
        return self._socket.fileno()

    @property
    def wants_write(self) -> bool:
        """Whether something waits until the socket takes it."""
        return bool(self._out)

    def subscribe(self, *topics: str) -> int:
        """Subscribes at QoS 1; a Subscribed follows for each topic."""
        packet_id = next(self._ids)
        self._asked[packet_id] = topics
        body = struct.pack(">H", packet_id) + b"".join(_text(topic) + b"\x01" for topic in topics)
        self._write(_packet(0x82, body))
        return packet_id

    def unsubscribe(self, topic: str) -> None:
        """Ends a subscription."""
        self._write(_packet(0xA2, struct.pack(">H", next(self._ids)) + _text(topic)))

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """Publishes at QoS 1; returns the token of its Delivered. ``payload`` is not copied."""
        packet_id = next(self._ids)
        head = _text(topic) + struct.pack(">H", packet_id)
        self._write(bytes((0x33 if retain else 0x32,)) + _length(len(head) + len(payload)) + head, payload)
        return packet_id

    def ping(self) -> None:
        """Shows the broker that this client lives."""
        self._write(_PING)

    def send(self) -> None:
        """Hands the socket what it takes now."""
        while self._out:
            try:
                sent = self._socket.sendmsg(list(self._out)[:16])
            except BlockingIOError:
                return
            while sent:
                first = self._out[0]
                if sent < len(first):
                    self._out[0] = first[sent:]
                    return
                sent -= len(first)
                self._out.popleft()

    def receive(self) -> list[TransportEvent]:
        """What has come; call it when the socket is readable."""
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return []
        if not data:
            raise ConnectionError("the broker ended the connection")
        self._in += data
        events: list[TransportEvent] = []
        start = 0
        while (packet := _next_packet(self._in, start)) is not None:
            kind, body_start, start = packet
            self._take(kind, bytes(memoryview(self._in)[body_start:start]), events)
        del self._in[:start]
        return events

    def close(self) -> None:
        """Says goodbye, as far as the socket takes it, so that the will is not published."""
        self._write(_GOODBYE)
        try:
            self._socket.setblocking(True)
            self.send()
        finally:
            self._socket.close()

    def abort(self) -> None:
        """Lets go of the socket."""
        self._socket.close()

    def _write(self, *parts: bytes) -> None:
        self._out.extend(memoryview(part) for part in parts if part)

    def _take(self, kind: int, body: bytes, events: list[TransportEvent]) -> None:
        match kind & 0xF0:
            case 0x30:
                events.append(self._published(kind, body))
            case 0x40:
                events.append(Delivered(int.from_bytes(body[:2])))
            case 0x20 if body[1]:
                raise ConnectionError(f"the broker refuses the connection with code {body[1]}")
            case 0x90:
                packet_id = int.from_bytes(body[:2])
                events.extend(Subscribed(topic) for topic in self._asked.pop(packet_id, ()))
                if packet_id == self._first:
                    events.append(Connected(BrokerLimits("3.1.1", None, _PACKET_IDS)))

    def _published(self, kind: int, body: bytes) -> Received:
        end = 2 + int.from_bytes(body[:2])
        topic = body[2:end].decode()
        if kind & 0x06:
            self._write(_ANSWER.pack(_PUBACK, 2, int.from_bytes(body[end : end + 2])))
            end += 2
        return Received(topic, body[end:], bool(kind & 1))


def _packet_ids() -> Iterator[int]:
    while True:
        yield from range(1, _PACKET_IDS + 1)


def _connect(client_id: str, will: LastWill | None) -> bytes:
    flags = 0x02 | (0x2C if will else 0)  # clean session; a will at QoS 1, retained
    body = _text("MQTT") + struct.pack(">BBH", 4, flags, KEEPALIVE_SECONDS) + _text(client_id)
    if will is not None:
        body += _text(will.topic) + struct.pack(">H", len(will.payload)) + will.payload
    return _packet(0x10, body)


def _packet(kind: int, body: bytes) -> bytes:
    return bytes((kind,)) + _length(len(body)) + body


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack(">H", len(raw)) + raw


def _length(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = divmod(value, 128)
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def _next_packet(buffer: bytearray, start: int) -> tuple[int, int, int] | None:
    """Kind, first byte of the body and end of the packet at ``start``; None if it is not whole yet."""
    length = shift = 0
    for position in range(start + 1, min(start + 5, len(buffer))):
        byte = buffer[position]
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            end = position + 1 + length
            return (buffer[start], position + 1, end) if end <= len(buffer) else None
    return None
