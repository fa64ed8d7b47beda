"""This module has one MQTT connection to a broker, from CONNECT to its end.

paho encodes the MQTT packets; this module drives paho through its external-loop interface, in one thread, without
paho's own reconnecting: after a loss a new connection object is made, so no state of the old connection (packet ids,
windows, queued packets) can leak into the new one.
"""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from fedlp_edge.errors import BrokerError
from fedlp_edge.transport.address import BrokerAddress
from fedlp_edge.transport.base import BrokerLimits, LastWill
from fedlp_edge.transport.mqtt import connection_errors
from fedlp_edge.transport.mqtt.broker_limits import limits_of, speaks_only_older
from fedlp_edge.transport.mqtt.paho_clients import close_socket, make_client
from fedlp_edge.transport.mqtt.sockets import AnySocket, unread

CONNECT_SECONDS = 10.0
PROBE_AFTER_SECONDS = 0.4
SILENT_SECONDS = 4.0
"""Seconds without an answer to an MQTT 5 CONNECT after which MQTT 3.1.1 is tried: some older brokers and proxies
never answer."""

GOODBYE_SECONDS = 1.0

LARGEST_PACKET = 16 * 1024 * 1024
"""Largest packet in bytes that this client accepts (MQTT 5): far above what a fleet sends, far below MQTT's own limit
of 256 MiB."""

_KEEPALIVE_TIMEOUT = 0x8D
_QUICK_ACKNOWLEDGEMENT = getattr(socket, "TCP_QUICKACK", None)  # only Linux has it


class ConnectionLostError(Exception):
    """Raised when the connection has ended; ``str`` gives the reason.

    Attributes:
        code: MQTT 5 reason code; 0 if the broker gave none.
    """

    def __init__(self, reason: str, code: int = 0) -> None:
        super().__init__(reason)
        self.code = code


class ClientIdRefusedError(BrokerError):
    """Raised when the broker refuses the client id, perhaps for its length."""


class OlderProtocolError(Exception):
    """Raised when the broker seems not to speak MQTT 5.

    Attributes:
        sign: Sign of it: the broker told so, or it was silent, or the connection just ended, perhaps because of the
            network.
    """

    def __init__(self, sign: Literal["told", "silent", "ended"]) -> None:
        super().__init__()
        self.sign = sign


@dataclass(frozen=True, slots=True)
class ConnectionEvents:
    """Callbacks that ``step`` calls; codes are MQTT 5 reason codes, of which 0x80 and above mean refusal.

    Attributes:
        received: Callback for a message: topic, payload, whether the message was retained.
        published: Callback for a PUBACK: packet id, code, name of the code.
        subscribed: Callback for a SUBACK: packet id, one (code, name) per topic filter.
    """

    received: Callable[[str, bytes, bool], None]
    published: Callable[[int, int, str], None]
    subscribed: Callable[[int, list[tuple[int, str]]], None]


class MqttConnection:
    """One MQTT connection, which a single thread uses.

    Args:
        address: Address and login of the broker.
        events: Callbacks for what the broker sends.
        context: TLS context; None without TLS.
        client_id: Client id, unique among the clients of the broker.
        will: Last will; None for none.
        version: MQTT version, ``"5"`` or ``"3.1.1"``.
        segment_bytes: Longest TCP segments; None to leave them to the system.
    """

    def __init__(
        self,
        address: BrokerAddress,
        events: ConnectionEvents,
        *,
        context: ssl.SSLContext | None,
        client_id: str,
        will: LastWill | None,
        version: str,
        segment_bytes: int | None = None,
    ) -> None:
        self._address = address
        self._context = context
        self._version = version
        self._events = events
        self._answer: tuple[ReasonCode, Properties | None] | None = None
        self._end: tuple[str, int] | None = None
        self._selector = selectors.DefaultSelector()
        self._wants_write = False
        client = make_client(address, version, client_id, context=context, will=will, segment_bytes=segment_bytes)
        client.max_inflight_messages_set(0)  # MqttTransport keeps the window of unacknowledged publishes
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.received = events.received
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        self._client = client

    def open(self, wake: socket.socket, stopping: threading.Event) -> BrokerLimits:
        """Connects and returns the limits that the broker's CONNACK announces.

        Args:
            wake: Socket that ends the waiting of ``step`` when it becomes readable.
            stopping: Event that aborts the connecting when it is set.

        Raises:
            BrokerError: The broker cannot be reached or refuses the connection.
            ClientIdRefusedError: The broker refuses the client id.
            OlderProtocolError: The broker should be tried with MQTT 3.1.1.
        """
        try:
            self._client.connect(
                self._address.host,
                self._address.port,
                self._address.keepalive_seconds,
                properties=_connect_properties(self._version),
            )
            wire = self._socket()
            # Small control messages must not wait for the acknowledgement of the packet before them.
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(wire, selectors.EVENT_READ)
        except (OSError, UnicodeError) as error:  # UnicodeError if the host name cannot be encoded
            raise connection_errors.unreachable(self._address, error) from None
        except ConnectionLostError:
            raise self._closed_early() from None
        reason, properties = self._wait_for_answer(stopping)
        if reason.value == connection_errors.UNSUPPORTED_VERSION and self._may_be_older:
            raise OlderProtocolError("told")
        if reason.is_failure:
            refused = connection_errors.login_refused(self._address, reason.value, str(reason))
            if reason.value == connection_errors.BAD_CLIENT_ID:
                raise ClientIdRefusedError(str(refused))
            raise refused
        self._selector.register(wake, selectors.EVENT_READ)
        return self._limits(properties)

    def step(self, timeout: float) -> bool:
        """Waits until the socket is readable or writable, and reads and writes what is possible.

        Args:
            timeout: Longest wait in seconds.

        Returns:
            Whether any byte came from the broker, even of an incomplete message.

        Raises:
            ConnectionLostError: The connection has ended.
        """
        wire = self._socket()
        wants_write = self._client.want_write()
        if wants_write != self._wants_write:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if wants_write else 0)
            self._selector.modify(wire, events)
            self._wants_write = wants_write
        pending = unread(wire)
        ready = {key.fileobj: mask for key, mask in self._selector.select(0 if pending else timeout)}
        mask = ready.get(wire, 0)
        came = pending or bool(mask & selectors.EVENT_READ)
        if came:
            self._check(self._client.loop_read())
            _acknowledge_at_once(wire)
        if mask & selectors.EVENT_WRITE:
            self._check(self._client.loop_write())
            _acknowledge_at_once(wire)
        self._check(self._client.loop_misc())
        return came

    @property
    def keepalive_seconds(self) -> float:
        """Seconds without any packet after which a ping is sent, as the broker wants it; infinite for never."""
        return self._client.keepalive or math.inf

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> int:
        """Publishes at QoS 1; returns the packet id."""
        return self._client.publish(topic, payload, qos=1, retain=retain).mid

    def subscribe(self, topics: Sequence[str]) -> int | None:
        """Subscribes at QoS 1; returns the packet id, None if the connection has just ended."""
        return self._client.subscribe([(topic, 1) for topic in topics])[1]

    def unsubscribe(self, topic: str) -> None:
        """Ends a subscription."""
        self._client.unsubscribe(topic)

    def close(self) -> None:
        """Sends DISCONNECT, if connected, and closes the socket, so that the last will is not published."""
        deadline = time.monotonic() + GOODBYE_SECONDS
        # paho closes its socket right after DISCONNECT, and some brokers notice the closed socket first and take it
        # for a loss. A second handle keeps the connection open until the broker has closed it.
        with (
            contextlib.suppress(ConnectionLostError, OSError),
            contextlib.closing(socket.socket(fileno=os.dup(self._socket().fileno()))) as kept,
        ):
            self._client.disconnect()
            while self._client.socket() is not None and time.monotonic() < deadline:
                self.step(0.1)
            kept.settimeout(GOODBYE_SECONDS)
            while time.monotonic() < deadline and kept.recv(65536):
                pass
        self.abort()

    def abort(self) -> None:
        """Closes the socket without a DISCONNECT."""
        close_socket(self._client)
        self._selector.close()

    def _wait_for_answer(self, stopping: threading.Event) -> tuple[ReasonCode, Properties | None]:
        started = time.monotonic()
        probed = not self._may_be_older
        while self._answer is None:
            waited = time.monotonic() - started
            if waited >= SILENT_SECONDS and self._may_be_older:
                raise OlderProtocolError("silent")
            if waited >= CONNECT_SECONDS:
                raise connection_errors.silent(self._address, CONNECT_SECONDS)
            if stopping.is_set():
                raise BrokerError("stopped before the broker answered")
            if not probed and waited >= PROBE_AFTER_SECONDS:
                probed = True
                if speaks_only_older(self._address, self._context):
                    raise OlderProtocolError("told")
            try:
                self.step(0.1)
            except ConnectionLostError:
                if self._answer is None:
                    raise self._closed_early() from None
        return self._answer

    def _closed_early(self) -> Exception:
        """Returns the error for an end before CONNACK; a broker of MQTT 3.1.1 may end other versions like that."""
        return OlderProtocolError("ended") if self._may_be_older else connection_errors.closed_early(self._address)

    @property
    def _may_be_older(self) -> bool:
        """Whether an older version than this connection's is allowed."""
        return self._version == "5" and self._address.protocol == "auto"

    def _limits(self, properties: Properties | None) -> BrokerLimits:
        announced: dict[str, Any] = {} if properties is None else vars(properties)
        if announced.get("MaximumQoS", 2) < 1:
            raise connection_errors.lacks(self._address, retained=False)
        if announced.get("RetainAvailable", 1) < 1:
            raise connection_errors.lacks(self._address, retained=True)
        return limits_of(
            self._address, self._version, announced.get("MaximumPacketSize"), announced.get("ReceiveMaximum")
        )

    def _socket(self) -> AnySocket:
        wire = self._client.socket()
        if wire is None:
            raise ConnectionLostError(*(self._end or ("the connection was lost", 0)))
        return cast(AnySocket, wire)  # paho's protocol type leaves out what a selector needs

    def _check(self, result: MQTTErrorCode) -> None:
        if result != MQTTErrorCode.MQTT_ERR_SUCCESS or self._client.socket() is None:
            raise ConnectionLostError(*(self._end or ("the connection was lost", 0)))

    def _on_connect(
        self, client: paho.Client, data: object, flags: object, reason: ReasonCode, properties: Properties | None
    ) -> None:
        del client, data, flags
        self._answer = (reason, properties)

    def _on_disconnect(
        self,
        client: paho.Client,
        data: object,
        flags: paho.DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        del client, data, properties
        if flags.is_disconnect_packet_from_server:
            self._end = (f"the broker ended the connection: {reason}", int(reason.value))
        elif reason.value == _KEEPALIVE_TIMEOUT:
            self._end = ("the broker has gone silent", 0)
        else:
            self._end = ("the connection was lost", 0)

    def _on_message(self, client: paho.Client, data: object, message: paho.MQTTMessage) -> None:
        del client, data
        with contextlib.suppress(UnicodeDecodeError):  # no topic of a fleet is invalid UTF-8
            self._events.received(message.topic, bytes(message.payload), message.retain)

    def _on_publish(
        self, client: paho.Client, data: object, packet_id: int, reason: ReasonCode, properties: Properties | None
    ) -> None:
        del client, data, properties
        # paho searches a table for the name, which would cost time with every chunk; refusals are rare.
        self._events.published(packet_id, int(reason.value), str(reason) if reason.is_failure else "")

    def _on_subscribe(
        self,
        client: paho.Client,
        data: object,
        packet_id: int,
        reasons: list[ReasonCode],
        properties: Properties | None,
    ) -> None:
        del client, data, properties
        self._events.subscribed(packet_id, [(int(reason.value), str(reason)) for reason in reasons])


def _connect_properties(version: str) -> Properties | None:
    """Returns the MQTT 5 properties of the CONNECT packet; None for MQTT 3.1.1."""
    if version != "5":
        return None
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.MaximumPacketSize = LARGEST_PACKET
    return properties


def _acknowledge_at_once(wire: AnySocket) -> None:
    """Makes the kernel acknowledge the next TCP segment without delay; the kernel resets this after each answer.

    Most brokers leave Nagle's algorithm on: the end of a packet waits in the broker until the bytes before it are
    acknowledged, and the kernel delays its acknowledgement by up to 40 ms in the hope of sending it along with data.
    """
    if _QUICK_ACKNOWLEDGEMENT is not None:
        with contextlib.suppress(OSError):  # the next step finds out that the connection is gone
            wire.setsockopt(socket.IPPROTO_TCP, _QUICK_ACKNOWLEDGEMENT, 1)
