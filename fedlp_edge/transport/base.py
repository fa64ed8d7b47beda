"""The interface that both services talk to.

A transport never calls back into protocol code. It hands events to a *sink* (usually a queue's ``put``)
and returns at once, so training or aggregation can never stop an MQTT keep-alive.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class BrokerLimits:
    """What the broker said on connecting (MQTT 5) or what is assumed where it said nothing.

    Attributes:
        protocol: ``"5"`` or ``"3.1.1"``; ``"memory"`` for the in-memory hub.
        max_packet_bytes: largest MQTT packet, header and topic included; None if not announced.
        receive_maximum: QoS 1 messages that may be unacknowledged at once.
        max_queued_messages: messages that the broker holds for one subscriber before it drops more; None for any
            number. No broker announces it.
    """

    protocol: str
    max_packet_bytes: int | None
    receive_maximum: int
    max_queued_messages: int | None = 1000


@dataclass(frozen=True, slots=True)
class Connected:
    """Connected (again), and subscribed (again) to everything that was asked for."""

    limits: BrokerLimits


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is gone; the transport keeps trying to get it back."""

    reason: str


@dataclass(frozen=True, slots=True)
class Received:
    """A message; ``retained`` if the broker had kept it."""

    topic: str
    payload: bytes
    retained: bool


@dataclass(frozen=True, slots=True)
class Delivered:
    """The broker took the publish with this token (which says nothing of any reader)."""

    token: int


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The broker confirmed the subscription to this filter."""

    topic: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The broker will not carry this, usually because of its access rules; trying again does not help.

    Attributes:
        topic: of the publish, or the filter of the subscription.
        reason: in words.
        token: of the publish, for which no Delivered follows; None for a subscription.
        too_long: the publish may be sent again in pieces, as the limits of the last Connected say.
    """

    topic: str
    reason: str
    token: int | None = None
    too_long: bool = False


@dataclass(frozen=True, slots=True)
class Arriving:
    """Bytes come, though no message is whole: a long one takes its time. Said now and then, by real networks alone."""


TransportEvent = Connected | Disconnected | Received | Delivered | Subscribed | Refused | Arriving
Sink = Callable[[TransportEvent], None]


@dataclass(frozen=True, slots=True)
class LastWill:
    """Published, retained, by the broker when the connection is lost without a goodbye."""

    topic: str
    payload: bytes


class Transport(Protocol):
    """A connection to a broker. All methods may be called from any thread and return at once."""

    def start(self, sink: Sink) -> None:
        """Begins connecting; events arrive at ``sink``, from a thread of the transport's own.

        Raises:
            BrokerError: the first connection is refused for good (bad login, TLS, unknown host, nothing
                listening). Later losses are Disconnected events and are retried for ever.
        """

    def subscribe(self, topic: str) -> None:
        """Subscribes at QoS 1, now and after every reconnect; Subscribed follows each time."""

    def unsubscribe(self, topic: str) -> None:
        """Ends a subscription."""

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """Queues one QoS 1 publish; returns the token of its Delivered event.

        What is not yet delivered when the connection is lost is sent again after the reconnect.
        """

    def stop(self) -> None:
        """Sends what is queued (for at most a few seconds), disconnects cleanly, ends its threads."""
