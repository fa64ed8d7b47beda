"""A TCP proxy before an MQTT broker that does to the packets what bad networks and bad brokers do.

It cuts the streams into MQTT packets, so a rule can say which publish it means, by topic and payload. Everything it
does is decided by the packets that pass, never by time, but for the delays themselves and the rate of a slow link.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Self

CONNECT, PUBLISH = 1, 3
TLS_HANDSHAKE = 0x16

Action = Literal["duplicate", "swap", "corrupt", "truncate", "garble", "cut", "delay", "note"]
Towards = Literal["broker", "client"]


@dataclass
class Rule:
    """What becomes of the publishes that it matches.

    Attributes:
        towards: in which direction.
        action: send it twice; ``swap`` it with the next publish; ``corrupt`` one byte of its payload; ``truncate``
            it and cut the connection; ``garble`` its first byte, so that no packet is left; ``cut`` the connection
            instead of sending it; ``delay`` it and all behind it; only ``note`` that it passed.
        topic: part of its topic.
        after: matches that pass unharmed before.
        times: matches that are harmed then; None for all.
        seconds: of a delay.
        then: called when it was applied.
    """

    towards: Towards
    action: Action
    topic: str
    after: int = 0
    times: int | None = 1
    seconds: float = 0.3
    then: Callable[[], None] | None = None
    seen: int = 0
    applied: int = 0

    def applies(self, topic: str) -> bool:
        if self.topic not in topic:
            return False
        self.seen += 1
        return self.seen > self.after and (self.times is None or self.applied < self.times)


class Cut(Exception):
    """The connection is to end."""


class FaultyProxy:
    """One listening port before one broker; a context manager.

    Args:
        host: of the broker.
        port: of the broker.

    Attributes:
        rules: of which the first that applies decides.
        cut_after: bytes in one direction after which a connection is cut, taken out once used.
        cut_longer: length in one direction; a connection with a longer packet is cut.
        bytes_per_second: that a connection carries in one direction; as many as come where none are given.
    """

    def __init__(self, host: str, port: int) -> None:
        self.rules: list[Rule] = []
        self.cut_after: list[tuple[Towards, int]] = []
        self.cut_longer: dict[Towards, int] = {}
        self.bytes_per_second: dict[Towards, float] = {}
        self.connections = 0
        self._upstream = (host, port)
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._open = threading.Event()
        self._open.set()
        self._closing = False

    @property
    def url(self) -> str:
        host, port = self._server.getsockname()[:2]
        return f"mqtt://{host}:{port}"

    def cut(self) -> None:
        """Ends all connections, now."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                _close(end)

    def stop(self) -> None:
        """Ends all connections and takes no new one."""
        self._open.clear()
        self.cut()

    def go(self) -> None:
        """Takes connections again."""
        self._open.set()

    def __enter__(self) -> Self:
        self._server = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        self._open.set()
        self._server.close()
        self.cut()

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            if not self._open.is_set():
                _close(client)
                continue
            try:
                broker = socket.create_connection(self._upstream, timeout=5)
            except OSError:
                _close(client)
                continue
            broker.settimeout(None)
            for end in (client, broker):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.append((client, broker))
            self.connections += 1
            version = _Version()
            for source, target, towards in ((client, broker, "broker"), (broker, client, "client")):
                stream = _Stream(self, source, target, towards, version)  # type: ignore[arg-type]
                threading.Thread(target=stream.run, daemon=True).start()

    def choose(self, towards: Towards, topic: str) -> Rule | None:
        """The rule for a publish."""
        with self._lock:
            for rule in self.rules:
                if rule.towards == towards and rule.applies(topic):
                    rule.applied += 1
                    return rule
        return None

    def limit(self, towards: Towards, passed: int) -> bool:
        """Whether a connection has carried enough to be cut."""
        with self._lock:
            for entry in self.cut_after:
                if entry[0] == towards and passed >= entry[1]:
                    self.cut_after.remove(entry)
                    return True
        return False


class _Version:
    """The protocol level that the client asked for: publishes of MQTT 5 have properties."""

    level = 4


class _Stream:
    """One direction of one connection."""

    def __init__(
        self, proxy: FaultyProxy, source: socket.socket, target: socket.socket, towards: Towards, version: _Version
    ) -> None:
        self._proxy = proxy
        self._source = source
        self._target = target
        self._towards = towards
        self._version = version
        self._passed = 0
        self._swapped: bytes | None = None

    def run(self) -> None:
        with contextlib.suppress(OSError, Cut):
            for packet in packets(self._source):
                self._forward(packet)
        _close(self._source)
        _close(self._target)

    def _forward(self, packet: bytes) -> None:
        # Who is not answered tries TLS, whose first packet begins with 0x16.
        kind = 0 if packet[0] == TLS_HANDSHAKE else packet[0] >> 4
        if len(packet) > self._proxy.cut_longer.get(self._towards, len(packet)):
            raise Cut
        if kind == CONNECT and self._towards == "broker":
            start = _body(packet)
            self._version.level = packet[start + 2 + int.from_bytes(packet[start : start + 2], "big")]
        if kind != PUBLISH:
            self._send(packet)
            return
        topic, payload = publish_parts(packet, self._version.level)
        rule = self._proxy.choose(self._towards, topic)
        if rule is None:
            self._send(packet)
        else:
            self._apply(rule, packet, payload)
            if rule.then is not None:
                rule.then()
        if self._swapped is not None and (rule is None or rule.action != "swap"):
            held, self._swapped = self._swapped, None
            self._send(held)

    def _apply(self, rule: Rule, packet: bytes, payload: int) -> None:
        match rule.action:
            case "duplicate":
                self._send(packet)
                self._send(packet)
            case "swap" if self._swapped is None:
                self._swapped = packet
            case "corrupt":
                place = (payload + len(packet)) // 2
                self._send(packet[:place] + bytes((packet[place] ^ 0xFF,)) + packet[place + 1 :])
            case "truncate":
                self._send(packet[: len(packet) // 2])
                raise Cut
            case "garble":
                self._send(b"\x00" + packet[1:])
            case "cut":
                raise Cut
            case "delay":
                time.sleep(rule.seconds)
                self._send(packet)
            case _:
                self._send(packet)

    def _send(self, data: bytes) -> None:
        if rate := self._proxy.bytes_per_second.get(self._towards):
            time.sleep(len(data) / rate)
        self._target.sendall(data)
        self._passed += len(data)
        if self._proxy.limit(self._towards, self._passed):
            raise Cut


def packets(source: socket.socket) -> Iterator[bytes]:
    """The MQTT packets of a stream, whole; ends with it."""
    buffer = bytearray()
    while data := source.recv(65536):
        buffer += data
        while (size := _size(buffer)) is not None and len(buffer) >= size:
            yield bytes(buffer[:size])
            del buffer[:size]


def publish_parts(packet: bytes, level: int) -> tuple[str, int]:
    """Topic of a publish, and where its payload begins."""
    start = _body(packet)
    end = start + 2 + int.from_bytes(packet[start : start + 2], "big")
    payload = end + (2 if packet[0] & 0x06 else 0)
    if level >= 5:
        length, width = _varint(packet, payload)
        payload += length + width
    return packet[start + 2 : end].decode(), payload


def _size(buffer: bytearray) -> int | None:
    """Bytes of the first packet; None if its header is not complete."""
    for width in range(1, 5):
        if len(buffer) <= width:
            return None
        if not buffer[width] & 0x80:
            return 1 + width + _varint(buffer, 1)[0]
    raise Cut


def _body(packet: bytes) -> int:
    return 1 + _varint(packet, 1)[1]


def _varint(data: bytes | bytearray, start: int) -> tuple[int, int]:
    """MQTT's variable byte integer and its width."""
    value = 0
    for width in range(4):
        byte = data[start + width]
        value |= (byte & 0x7F) << (7 * width)
        if not byte & 0x80:
            return value, width + 1
    raise Cut


def _close(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
