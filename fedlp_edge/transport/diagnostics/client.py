"""This module has a plain MQTT client for measuring brokers, which can delay acknowledgements and cut its connection.

``MqttTransport`` hides what a measurement must see: reason codes, lost connections, repeated messages.
"""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.reasoncodes import ReasonCode

from fedlp_edge.errors import BrokerError
from fedlp_edge.transport.address import BrokerAddress
from fedlp_edge.transport.base import LastWill
from fedlp_edge.transport.mqtt.paho_clients import close_socket, make_client

ANSWER_SECONDS = 5.0
REFUSED = 0x80
_WINDOW = 10  # below the receive maximum of every known broker


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """One message as it arrived."""

    topic: str
    payload: bytes
    retained: bool


class DiagnosticClient:
    """One connection to a broker; a context manager.

    Args:
        address: Address and login of the broker.
        version: MQTT version that a transport agreed on with the broker.
        name: Client id.
        will: Last will.
        hold: Whether to acknowledge no message before ``release``.
    """

    def __init__(
        self, address: BrokerAddress, version: str, name: str, *, will: LastWill | None = None, hold: bool = False
    ) -> None:
        client = make_client(address, version, name, context=address.ssl_context(), will=will, manual_ack=True)
        client.max_inflight_messages_set(_WINDOW)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        self._client = client
        self._address = address
        self._hold = hold
        self._held: list[int] = []
        self._answers: dict[tuple[str, int], tuple[int, str]] = {}
        self._changed = threading.Condition()
        self._connected: bool | None = None
        self._messages: queue.SimpleQueue[ReceivedMessage] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        try:
            self._client.connect(self._address.host, self._address.port, keepalive=self._address.keepalive_seconds)
        except OSError as error:
            raise BrokerError(f"cannot connect to the broker at {self._address.url} again: {error}") from None
        self._client.loop_start()
        with self._changed:
            self._changed.wait_for(lambda: self._connected is not None, ANSWER_SECONDS)
        if not self._connected:
            self.drop_connection()
            raise BrokerError(f"the broker at {self._address.url} does not take another connection")
        return self

    def __exit__(self, *exception: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def alive(self) -> bool:
        """Whether the connection is still open."""
        return bool(self._connected)

    def subscribe(self, topic: str) -> str:
        """Subscribes at QoS 1; returns the broker's reason for a refusal, empty if it accepts."""
        _, packet_id = self._client.subscribe(topic, 1)
        code, reason = self._answer("subscribe", packet_id or 0, ANSWER_SECONDS)
        return reason if code >= REFUSED else ""

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """Publishes at QoS 1 as the window allows; returns the packet id for ``refusal``."""
        return self._client.publish(topic, payload, 1, retain=retain).mid

    def refusal(self, packet_id: int, timeout: float = ANSWER_SECONDS) -> str:
        """Waits for a publish's acknowledgement; returns the broker's reason for a refusal, empty if it accepts."""
        code, reason = self._answer("publish", packet_id, timeout)
        return reason if code >= REFUSED else ""

    def next(self, timeout: float = ANSWER_SECONDS) -> ReceivedMessage | None:
        """Returns the next message; None if none arrives within ``timeout`` seconds."""
        try:
            return self._messages.get(timeout=timeout)
        except queue.Empty:
            return None

    def count(self, quiet: float, most: float) -> int:
        """Counts messages until none has arrived for ``quiet`` seconds.

        Args:
            quiet: Seconds without a message that end the count.
            most: Seconds after which the count ends in any case.
        """
        until, count = time.monotonic() + most, 0
        while time.monotonic() < until and self.next(quiet) is not None:
            count += 1
        return count

    def release(self) -> None:
        """Acknowledges the messages that were held, and every message from now on."""
        self._hold = False
        while self._held:
            self._client.ack(self._held.pop(0), 1)

    def drop_connection(self) -> None:
        """Closes the socket without a DISCONNECT."""
        close_socket(self._client)
        self._client.loop_stop()

    def _answer(self, kind: str, packet_id: int, timeout: float) -> tuple[int, str]:
        key = (kind, packet_id)
        with self._changed:
            self._changed.wait_for(lambda: key in self._answers or not self._connected, timeout)
            lost = "the broker ended the connection" if not self._connected else "the broker does not answer"
            return self._answers.pop(key, (REFUSED, lost))

    def _note(self, key: tuple[str, int], reason: ReasonCode) -> None:
        with self._changed:
            self._answers[key] = (int(reason.value), str(reason))
            self._changed.notify_all()

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        del client, data, flags, properties
        with self._changed:
            self._connected = not reason.is_failure
            self._changed.notify_all()

    def _on_disconnect(self, client: Any, data: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        del client, data, flags, reason, properties
        with self._changed:
            self._connected = False
            self._changed.notify_all()

    def _on_message(self, client: paho.Client, data: Any, message: paho.MQTTMessage) -> None:
        del data
        self._messages.put(ReceivedMessage(message.topic, bytes(message.payload), message.retain))
        if not message.qos:
            return
        if self._hold:
            self._held.append(message.mid)
        else:
            client.ack(message.mid, message.qos)

    def _on_publish(self, client: Any, data: Any, packet_id: int, reason: ReasonCode, properties: Any) -> None:
        del client, data, properties
        self._note(("publish", packet_id), reason)

    def _on_subscribe(self, client: Any, data: Any, packet_id: int, reasons: list[ReasonCode], properties: Any) -> None:
        del client, data, properties
        self._note(("subscribe", packet_id), reasons[0])
