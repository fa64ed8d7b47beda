"""This module defines the transport interface through which both services use a broker.

A transport never calls back into protocol code. It hands events to a *sink* (usually a queue's ``put``)
and returns at once, so training or aggregation can never stop an MQTT keep-alive.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class BrokerLimits:
    """Limits that the broker announced on connecting (MQTT 5), or that are assumed where it announced none.

    Attributes:
        protocol: MQTT version, ``"5"`` or ``"3.1.1"``; ``"memory"`` for the in-memory hub.
        max_packet_bytes: Largest MQTT packet in bytes, header and topic included; None if not announced.
        receive_maximum: QoS 1 messages that may be unacknowledged at once.
        max_queued_messages: Messages that the broker holds for one subscriber before it drops more; None for any
            number. No broker announces it.
    """

    protocol: str
    max_packet_bytes: int | None
    receive_maximum: int
    max_queued_messages: int | None = 1000


@dataclass(frozen=True, slots=True)
class Connected:
    """This event says that the transport is connected and has subscribed (again) to all requested topics.

    Attributes:
        limits: Limits of the broker.
        repeated: Whether it follows a loss that was ``repeated``.
    """

    limits: BrokerLimits
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Disconnected:
    """This event says that the connection is lost; the transport keeps trying to reconnect.

    Attributes:
        reason: Reason, for people.
        repeated: Whether the connections before ended alike within seconds, so that people have been told already.
    """

    reason: str
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Received:
    """This event brings a message; ``retained`` is True if the broker had kept the message for new subscribers."""

    topic: str
    payload: bytes
    retained: bool


@dataclass(frozen=True, slots=True)
class Delivered:
    """This event says that the broker acknowledged the publish with this token; subscribers may not have it yet."""

    token: int


@dataclass(frozen=True, slots=True)
class Subscribed:
    """This event says that the broker confirmed the subscription to this topic filter."""

    topic: str


@dataclass(frozen=True, slots=True)
class Refused:
    """This event says that the broker refused a publish or a subscription for good, usually by its access rules.

    Attributes:
        topic: Topic of the publish, or topic filter of the subscription.
        reason: Reason, as text for people.
        token: Token of the publish, for which no Delivered follows; None for a subscription.
        too_long: Whether the publish was too long: it may be sent again in pieces that fit the last Connected's limits.
    """

    topic: str
    reason: str
    token: int | None = None
    too_long: bool = False


@dataclass(frozen=True, slots=True)
class MessageArriving:
    """This event says that bytes of an incomplete message are arriving; only the MQTT transport emits it."""


TransportEvent = Connected | Disconnected | Received | Delivered | Subscribed | Refused | MessageArriving
Sink = Callable[[TransportEvent], None]


@dataclass(frozen=True, slots=True)
class LastWill:
    """The last will: a retained message that the broker publishes when the connection ends without a DISCONNECT."""

    topic: str
    payload: bytes


class Transport(Protocol):
    """A connection to a broker. All methods may be called from any thread and return at once."""

    def start(self, sink: Sink) -> None:
        """Connects; events arrive at ``sink``, called from the transport's own thread.

        Raises:
            BrokerError: The first connection fails for good (bad login, TLS), or, unless the transport is patient, at
                all (unknown host, nothing listening). Later losses are Disconnected events, after which the transport
                reconnects for ever.
        """

    def subscribe(self, topic: str) -> None:
        """Subscribes at QoS 1, now and after every reconnect; Subscribed follows each time."""

    def unsubscribe(self, topic: str) -> None:
        """Ends a subscription."""

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """Queues one QoS 1 publish; returns the token of its Delivered event.

        A publish that is not yet acknowledged when the connection is lost is sent again after the reconnect.
        """

    def stop(self) -> None:
        """Sends queued publishes for at most a few seconds, disconnects cleanly, and ends the transport's threads."""
