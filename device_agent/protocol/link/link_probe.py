"""Measures this device's link by echoes: the device receives its own messages through the broker.

A few tiny messages give the latency, the least of their times. Then exchanges grow until one takes long enough to be
trusted, or until a megabyte has gone, which says enough of a fast link. What the last one carried, over its time less
the latency, is the rate.

The rate is that of the slower direction. An exchange goes out in many parts, of which the first are on their way back
while the last are on their way there, so both directions carry at the same time and the slower one decides. What
does not overlap, one part in eight at most, is not made up for, nor are MQTT's own headers: a plan should be in time.
The broker's acknowledgements would not tell the way there by itself: Mosquitto sends the echo of a message first and
its acknowledgement behind that, through the same link.

Random bytes cannot be compressed on the way, nor can anybody else's be taken for them: an echo counts if it is, bit for
bit, a part that is waited for, so old, foreign and damaged ones do not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from device_agent.limits import LIMITS
from device_agent.protocol.events import Effects, Identity, Log, SendProbe, Subscribe
from fedlp_edge.errors import BrokerError
from fedlp_edge.reporting.formatting import format_bytes
from fedlp_edge.transport.base import BrokerLimits
from fedlp_edge.wire.chunks import chunk_bytes_for

_LIMITS = LIMITS.link_probe


@dataclass
class _Exchange:
    """The messages of one size that were sent together."""

    began: float
    part_bytes: int
    awaited: set[bytes]
    came: int = 0
    last: float = 0.0

    def receive(self, payload: bytes, now: float) -> bool:
        """Returns whether a message is one of this exchange, received for the first time."""
        if len(payload) != self.part_bytes or payload not in self.awaited:
            return False
        self.awaited.remove(payload)
        self.came, self.last = self.came + 1, now
        return True

    @property
    def seconds(self) -> float:
        """Returns the seconds until the last message that has come."""
        return self.last - self.began


class LinkProbe:
    """The measurement of the link to the broker.

    Args:
        identity: Identity of the agent.
        draw: Function that returns a number of random bytes.
        allowed: Whether the link may be used for this; without, nothing is sent and the rate stays unknown.

    Attributes:
        topic: Topic that this device publishes to and is subscribed to from the measurement on.
        settled: Whether it is over.
        works: Whether echoes come back; None if that is not known.
        rate: Bytes per second; None if unknown.
    """

    def __init__(self, identity: Identity, draw: Callable[[int], bytes], *, allowed: bool = True) -> None:
        self._draw = draw
        self._allowed = allowed
        self._attempts = 0
        self._asked = False
        self._chunk_bytes = 0
        self._pings: list[float] = []
        self._sent_bytes = 0
        self._exchange: _Exchange | None = None
        self._began = 0.0
        self._give_up_at: float | None = None
        self.topic = identity.topics.of("echo", identity.device)
        self.finished = not allowed
        self.works: bool | None = None
        self.rate: float | None = None

    def reset(self) -> None:
        """Forgets a finished measurement, so that ``begin`` starts another one."""
        if self.finished and self._allowed:
            self.finished, self._attempts = False, 0
            self._forget()

    def begin(self, broker: BrokerLimits, now: float) -> Effects:
        """Starts the measurement if it is still to be made, since nothing else disturbs it now.

        Args:
            broker: Limits of the broker that is connected.
            now: Time, in seconds of the clock of the service.
        """
        if self.finished or self._asked:
            return []
        try:
            self._chunk_bytes = chunk_bytes_for(broker)
        except BrokerError as error:
            return self._finish(None, f"link: unknown: {error}")
        self._attempts += 1
        self._asked, self._began = True, now
        self._wait(now)
        return [Subscribe(self.topic)]

    def subscribed(self, topic: str, now: float) -> Effects:
        """Notes that the broker confirmed a subscription."""
        if topic != self.topic or self.finished or not self._asked or self._exchange is not None:
            return []
        return self._send(1, _LIMITS.ping_bytes, now)

    def received(self, payload: bytes, now: float) -> Effects:
        """Takes a message on the topic of echoes."""
        exchange = self._exchange
        if exchange is None or not exchange.receive(payload, now):
            return []
        self._wait(now)
        self.works = True
        if exchange.awaited:
            return []
        if len(self._pings) < _LIMITS.pings:
            self._pings.append(exchange.seconds)
            if len(self._pings) < _LIMITS.pings:
                return self._send(1, _LIMITS.ping_bytes, now)
            return self._grow(_LIMITS.first_bytes, now)
        self.rate = self._rate_of(exchange)
        # Where no time passes, as in a simulation, more bytes tell no more.
        if not exchange.seconds or exchange.seconds - self.latency >= self._trusted_seconds:
            return self._finish(self.rate)
        return self._grow(_LIMITS.growth * exchange.came * exchange.part_bytes, now)

    def refused(self, reason: str) -> Effects:
        """Notes that the broker does not carry an echo of this length."""
        self.works = False
        return [] if self.finished else self._finish(None, f"link: unknown: the broker refuses {self.topic}: {reason}")

    def interrupted(self) -> Effects:
        """Notes that the connection is lost, so that echoes in transit say nothing any more."""
        if self.finished or not self._asked:
            return []
        if self._attempts >= _LIMITS.attempts:
            return self._finish(None, "link: unknown: the connection broke while it was measured")
        self._forget()
        return []

    def next_wakeup(self) -> float | None:
        """Returns when ``poll`` has something to do unless an event comes first, in seconds; None if never."""
        return self._give_up_at

    def poll(self, now: float) -> Effects:
        """Ends an exchange of which nothing more comes, with the messages that have come."""
        if self._give_up_at is None or now < self._give_up_at:
            return []
        exchange = self._exchange
        if exchange is not None and len(self._pings) == _LIMITS.pings and exchange.came:
            return self._finish(self._rate_of(exchange))
        if self.rate is not None:
            return self._finish(self.rate)
        self.works = False
        text = f"nothing comes back on {self.topic}; does the broker let this device publish and read there?"
        return self._finish(None, f"link: unknown: {text}")

    @property
    def latency(self) -> float:
        """Seconds to the broker and back; 0 if unknown."""
        return min(self._pings, default=0.0)

    @property
    def _trusted_seconds(self) -> float:
        return min(
            max(_LIMITS.trusted_seconds, _LIMITS.trusted_latencies * self.latency), _LIMITS.trusted_at_most_seconds
        )

    def _rate_of(self, exchange: _Exchange) -> float | None:
        # A latency that has fallen since the pings must not make a rate that no link has.
        seconds = max(exchange.seconds - self.latency, exchange.seconds / 2)
        return exchange.came * exchange.part_bytes / seconds if seconds else None

    def _grow(self, wanted: int, now: float) -> Effects:
        """Begins the next, larger exchange; ends the measurement if there is no room for one."""
        size = min(wanted, _LIMITS.total_bytes - self._sent_bytes, _LIMITS.most_parts * self._chunk_bytes)
        before = wanted // _LIMITS.growth if self.rate is not None else 0
        if size <= before:
            return self._finish(self.rate)
        parts = max(_LIMITS.parts, -(-size // self._chunk_bytes))
        return self._send(parts, size // parts, now)

    def _send(self, parts: int, part_bytes: int, now: float) -> Effects:
        payloads = [self._draw(part_bytes) for _ in range(parts)]
        self._exchange = _Exchange(now, part_bytes, set(payloads))
        self._sent_bytes += parts * part_bytes
        self._wait(now)
        return [SendProbe(self.topic, payload) for payload in payloads]

    def _forget(self) -> None:
        self._asked, self._exchange, self._give_up_at = False, None, None
        self._pings, self._sent_bytes, self.rate = [], 0, None

    def _wait(self, now: float) -> None:
        self._give_up_at = min(now + _LIMITS.patience_seconds, self._began + _LIMITS.longest_seconds)

    def _finish(self, rate: float | None, trouble: str = "") -> Effects:
        self.finished, self.rate = True, rate
        self._exchange, self._give_up_at = None, None
        note = Log(trouble, warning=True) if trouble else Log(self._finding(rate))
        return [note]

    def _finding(self, rate: float | None) -> str:
        speed = "faster than can be measured" if rate is None else f"{format_bytes(rate)}/s"
        return f"link: {speed} through the broker, which answers after {1000 * self.latency:.1f} ms"


def slower(stated: float | None, measured: float | None) -> float | None:
    """Returns the rate to plan with: the lesser of the rates that are known, in bytes per second."""
    return min((rate for rate in (stated, measured) if rate is not None), default=None)
