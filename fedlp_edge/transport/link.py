"""One connection to a broker, from CONNECT to its end.

Driven by one thread, without reconnecting: after a loss everything starts with a new link, so no half-remembered state
of an old connection (packet ids, windows, half a packet) can leak into a new one.
"""

from __future__ import annotations

import contextlib
import itertools
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fedlp_edge.errors import BrokerError
from fedlp_edge.transport import packets, words
from fedlp_edge.transport.base import BrokerLimits, LastWill
from fedlp_edge.transport.limits import limits_of, speaks_only_older
from fedlp_edge.transport.packets import ConnAck, Goodbye, MalformedPacket, Pong, PubAck, Published, SubAck, UnsubAck
from fedlp_edge.transport.url import BrokerAddress
from fedlp_edge.transport.wire import Wire

KEEPALIVE_SECONDS = 30
CONNECT_SECONDS = 10.0
PROBE_AFTER_SECONDS = 0.4
GOODBYE_SECONDS = 1.0

LARGEST_PACKET = 16 * 1024 * 1024
"""That is taken from a broker: far above what a fleet sends, far below what MQTT lets a hostile device send."""

VIEWED = 4096
"""Payloads above so many bytes are handed on as a view of the packet; a smaller one is copied and lets go of it."""

_PACKET_IDS = 65535


class LinkLost(Exception):
    """The connection has ended; ``str`` says why.

    Attributes:
        code: MQTT 5's reason, 0 if the broker gave none.
    """

    def __init__(self, reason: str, code: int = 0) -> None:
        super().__init__(reason)
        self.code = code


class OlderProtocol(Exception):
    """The broker seems not to speak MQTT 5.

    Attributes:
        sure: whether it said so; otherwise it just ended the connection, or the network did.
    """

    def __init__(self, *, sure: bool) -> None:
        super().__init__()
        self.sure = sure


@dataclass(frozen=True, slots=True)
class LinkEvents:
    """Called from ``step``; codes are MQTT 5's and mean refusal from 0x80 on.

    Attributes:
        received: topic, payload, whether it had been retained.
        published: packet id, code, its name.
        subscribed: packet id, one (code, name) per filter.
    """

    received: Callable[[str, bytes | memoryview, bool], None]
    published: Callable[[int, int, str], None]
    subscribed: Callable[[int, list[tuple[int, str]]], None]


class Link:
    """One connection. Everything but ``wake`` belongs to one thread.

    Args:
        address: of the broker.
        events: what to call.
        context: for TLS.
        client_id: must differ between all clients of the broker.
        will: left with the broker.
        version: of MQTT, ``"5"`` or ``"3.1.1"``.
    """

    def __init__(
        self,
        address: BrokerAddress,
        events: LinkEvents,
        *,
        context: ssl.SSLContext | None,
        client_id: str,
        will: LastWill | None,
        version: str,
    ) -> None:
        self._address = address
        self._context = context
        self._version = version
        self._events = events
        self._hello = packets.connect(
            version,
            client_id,
            KEEPALIVE_SECONDS,
            username=address.username,
            password=address.password,
            will=will,
            max_packet_bytes=LARGEST_PACKET,
        )
        self._keepalive = float(KEEPALIVE_SECONDS)
        self._answer: ConnAck | None = None
        self._selector = selectors.DefaultSelector()
        self._wire: Wire | None = None
        self._lost: LinkLost | None = None
        self._wants_write = False
        self._numbers = itertools.cycle(range(1, _PACKET_IDS + 1))
        self._unanswered: set[int] = set()
        self._heard_at = self._spoke_at = 0.0
        self._pinged_at: float | None = None

    def open(self, wake: socket.socket, stopping: threading.Event) -> BrokerLimits:
        """Connects and waits for the broker's answer.

        Args:
            wake: a socket that ends the waiting of ``step`` when it becomes readable.
            stopping: gives up when it is set.

        Raises:
            BrokerError: the broker cannot be reached or says no.
            OlderProtocol: it should be tried with MQTT 3.1.1.
        """
        try:
            address = self._address
            self._wire = wire = Wire(address.host, address.port, self._context, CONNECT_SECONDS / 2, LARGEST_PACKET)
        except (OSError, UnicodeError) as error:
            raise words.unreachable(self._address, error) from None
        self._selector.register(wire.socket, selectors.EVENT_READ)
        self._heard_at = self._spoke_at = time.monotonic()
        wire.send(self._hello)
        answer = self._wait_for_answer(stopping)
        if answer.code == words.UNSUPPORTED_VERSION and self._version == "5":
            raise OlderProtocol(sure=True)
        if answer.code >= packets.REFUSED:
            raise words.login_refused(self._address, answer.code, words.reason(answer.code))
        self._selector.register(wake, selectors.EVENT_READ)
        self._keepalive = float(answer.keepalive or KEEPALIVE_SECONDS)
        return self._limits(answer)

    def step(self, timeout: float) -> None:
        """Sends what waits, waits until something can be done, and does it.

        Args:
            timeout: seconds to wait at most.

        Raises:
            LinkLost: the connection has ended.
        """
        wire = self._standing()
        try:
            if wire.flush():
                self._spoke_at = time.monotonic()
            if wire.waiting != self._wants_write:
                self._wants_write = wire.waiting
                events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._wants_write else 0)
                self._selector.modify(wire.socket, events)
            pending = wire.pending
            ready = {key.fileobj: mask for key, mask in self._selector.select(0 if pending else timeout)}
            if pending or ready.get(wire.socket, 0) & selectors.EVENT_READ:
                for packet in wire.receive():
                    self._take(packets.read(self._version, packet.first, packet.body))
                self._heard_at, self._pinged_at = time.monotonic(), None
        except OSError:
            raise LinkLost("the connection was lost") from None
        except MalformedPacket:
            raise LinkLost("what the broker sends is no MQTT, or too much of it") from None
        self._stay_alive(wire)

    def publish(self, topic: str, payload: bytes | memoryview, *, retain: bool) -> int:
        """Sends at QoS 1; returns the packet id. ``payload`` is not copied."""
        packet_id = self._number()
        head = packets.publish_head(self._version, topic, packet_id, len(payload), retain=retain)
        self._standing().send(head, payload)
        return packet_id

    def subscribe(self, topics: Sequence[str]) -> int:
        """Subscribes at QoS 1; returns the packet id."""
        packet_id = self._number()
        self._standing().send(packets.subscribe(self._version, packet_id, topics))
        return packet_id

    def unsubscribe(self, topic: str) -> None:
        """Ends a subscription."""
        self._standing().send(packets.unsubscribe(self._version, self._number(), topic))

    def close(self) -> None:
        """Says goodbye, if the connection stands, and lets go of the socket: the will is not published."""
        deadline = time.monotonic() + GOODBYE_SECONDS
        with contextlib.suppress(LinkLost):
            self._standing().send(packets.GOODBYE)
            # Some brokers take what they see first, the closing, for a loss: it is left to them.
            while time.monotonic() < deadline:
                self.step(0.1)
        self.abort()

    def abort(self) -> None:
        """Lets go of the socket without a goodbye."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None
        self._selector.close()

    def _wait_for_answer(self, stopping: threading.Event) -> ConnAck:
        started = time.monotonic()
        probed = self._version != "5" or self._address.protocol != "auto"
        while self._answer is None:
            waited = time.monotonic() - started
            if waited >= CONNECT_SECONDS:
                raise words.silent(self._address, CONNECT_SECONDS)
            if stopping.is_set():
                raise BrokerError("stopped before the broker answered")
            if not probed and waited >= PROBE_AFTER_SECONDS:
                probed = True
                if speaks_only_older(self._address, self._context):
                    raise OlderProtocol(sure=True)
            try:
                self.step(0.1)
            except LinkLost as lost:
                if self._answer is None:
                    raise self._closed_early() from None
                self._lost = lost  # right behind the answer: for whoever takes the next step
        return self._answer

    def _closed_early(self) -> Exception:
        """MQTT 3.1.1 lets a broker just close on a version that it does not know."""
        if self._version == "5" and self._address.protocol == "auto":
            return OlderProtocol(sure=False)
        return words.closed_early(self._address)

    def _limits(self, answer: ConnAck) -> BrokerLimits:
        if answer.maximum_qos is not None and answer.maximum_qos < 1:
            raise BrokerError(f"the broker at {self._address.url} allows no QoS 1, which fleets need")
        if answer.retain_available is not None and answer.retain_available < 1:
            raise BrokerError(f"the broker at {self._address.url} keeps no retained messages, which fleets need")
        return limits_of(self._address, self._version, answer.max_packet_bytes, answer.receive_maximum)

    def _standing(self) -> Wire:
        if self._lost is not None or self._wire is None:
            raise self._lost or LinkLost("the connection was lost")
        return self._wire

    def _number(self) -> int:
        """A packet id that is not in use."""
        number = next(number for number in self._numbers if number not in self._unanswered)
        self._unanswered.add(number)
        return number

    def _stay_alive(self, wire: Wire) -> None:
        now = time.monotonic()
        if self._pinged_at is not None:
            if now - self._pinged_at >= self._keepalive:
                raise LinkLost("the broker has gone silent")
        elif now - min(self._heard_at, self._spoke_at) >= self._keepalive:
            self._pinged_at = now
            wire.send(packets.PING)

    def _take(self, packet: packets.FromBroker) -> None:
        match packet:
            case Published() as message:
                self._take_message(message)
            case PubAck(packet_id, code):
                self._unanswered.discard(packet_id)
                self._events.published(packet_id, code, words.reason(code))
            case SubAck(packet_id, codes):
                self._unanswered.discard(packet_id)
                self._events.subscribed(packet_id, [(code, words.reason(code)) for code in codes])
            case UnsubAck(packet_id):
                self._unanswered.discard(packet_id)
            case ConnAck() as answer:
                self._answer = answer
            case Goodbye(code):
                raise LinkLost(f"the broker ended the connection: {words.reason(code)}", code)
            case Pong():
                pass

    def _take_message(self, message: Published) -> None:
        if message.topic is not None:  # else it cannot be one of ours
            payload = message.payload if len(message.payload) > VIEWED else bytes(message.payload)
            self._events.received(message.topic, payload, message.retained)
        if message.packet_id is not None:
            self._standing().send(packets.acknowledge(message.packet_id))
