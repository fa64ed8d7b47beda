"""This module has the transport of real fleets: MQTT 5, or MQTT 3.1.1 where the broker does not speak MQTT 5.

One thread owns the connection; other threads put publishes and subscriptions into queues and wake it. Broker sessions
are not used: after a loss, the transport subscribes again and sends unacknowledged publishes again, and the protocol
above repeats what was lost between broker and subscriber.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import random
import socket
import ssl
import threading
import time
from collections import deque
from concurrent.futures import Future, InvalidStateError
from ipaddress import ip_address

from fedlp_edge.errors import BrokerAwayError, BrokerError, ConfigError
from fedlp_edge.transport.address import BrokerAddress
from fedlp_edge.transport.base import (
    BrokerLimits,
    Connected,
    Delivered,
    Disconnected,
    LastWill,
    MessageArriving,
    Received,
    Refused,
    Sink,
    Subscribed,
)
from fedlp_edge.transport.mqtt import connection_errors
from fedlp_edge.transport.mqtt.broker_limits import narrowed
from fedlp_edge.transport.mqtt.connection import (
    SILENT_SECONDS,
    ClientIdRefusedError,
    ConnectionEvents,
    ConnectionLostError,
    MqttConnection,
    OlderProtocolError,
)
from fedlp_edge.transport.mqtt.paho_clients import short_client_id
from fedlp_edge.transport.mqtt.publish_queue import PublishQueue, QueuedPublish
from fedlp_edge.transport.mqtt.rate_limit import RateLimit
from fedlp_edge.transport.mqtt.stalls import Stalls
from fedlp_edge.transport.mqtt.unannounced_limit import UnannouncedLimit
from fedlp_edge.transport.remembered import RememberedLimits
from fedlp_edge.transport.retry_log import RetryLog

log = logging.getLogger(__name__)

SHORT_LIVED = 5
"""Connections in a row that end soon after they were accepted until it is said what the reason may be."""

FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 5.0
STEADY_SECONDS = 10.0
"""A connection that lasted this long was good: after its loss the first retry is fast again."""

ARRIVING_SECONDS = 0.4
"""Seconds between two MessageArriving events for an incomplete message: shorter than every timeout that they extend."""

TOGETHER_SECONDS = 4.0
"""Seconds within which two arrivals are of one message; less where pings are more frequent."""

CANCEL_SECONDS = 0.2
"""Seconds between two looks of ``start`` at whether it is cancelled."""

ABANDON_SECONDS = 1.0
"""Seconds after which ``stop`` waits no longer for an attempt to connect, which nothing can interrupt."""

GOODBYE_SECONDS = 3.0
RESUBSCRIBE_SECONDS = 20.0
SUBSCRIPTIONS_PER_PACKET = 8  # AWS IoT takes no more

_REFUSED = 0x80
_WANTED_QOS = 1


class MqttTransport:
    """A ``Transport`` over paho-mqtt.

    Args:
        address: Address and login of the broker.
        client_id: Client id, unique among the clients of the broker.
        will: Last will, which the broker publishes when the connection is lost; None for none.
        remembered: Packet limits that earlier processes found; by default none are read and none are stored.
        patient: Whether a broker that is away is waited for at the start as it is later.
    """

    def __init__(
        self,
        address: BrokerAddress,
        client_id: str,
        will: LastWill | None = None,
        remembered: RememberedLimits | None = None,
        *,
        patient: bool = False,
    ) -> None:
        self._patient = patient
        self._address = address
        self._client_id = client_id
        self._will = will
        self._tokens = itertools.count(1)
        self._outgoing = PublishQueue()
        self._subscription_changes: deque[tuple[str, bool]] = deque()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._cancelled = threading.Event()
        self._connecting = self._abandoned = False
        self._woken = False
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)

        # The attributes from here on belong to the connection's thread.
        self._emit: Sink = lambda _: None
        self._version: str = "5" if address.protocol == "auto" else address.protocol
        self._version_known = address.protocol != "auto"
        self._limits = BrokerLimits(self._version, None, 1)
        self._remembered = remembered or RememberedLimits(None)
        self._unannounced = UnannouncedLimit()
        if address.max_packet_bytes is None:  # a configured limit counts before a remembered one
            self._unannounced.packet = self._remembered.packet(address.host, address.port)
        preset = address.preset
        self._rate_limit = RateLimit(preset.publishes_per_second, preset.bytes_per_second, time.monotonic())
        self._whole_packets = self._seen = 0
        self._seen_at = time.monotonic()
        self._part_at = -math.inf
        self._topics: dict[str, None] = {}
        self._unconfirmed: dict[int, list[str]] = {}
        self._qos_warned = False
        self._short_lived = 0
        self._unanswered = ""
        self._losses = RetryLog()
        self._repeated = False
        self._stalls = Stalls()
        self._heard_at = 0.0

    def start(self, sink: Sink) -> None:
        """Starts the connection's thread and returns when the first connection is made, or is waited for.

        Raises:
            BrokerError: The first connection fails; ``start`` may be called again.
            ConfigError: A certificate file is unusable.
            RuntimeError: ``start`` has been called already.
        """
        if self._thread is not None:
            raise RuntimeError("start has been called already")
        context = self._address.ssl_context()
        if self._address.password is not None and context is None and not _is_loopback(self._address.host):
            log.warning("the password for %s is sent unencrypted; use mqtts://", self._address.url)
        if (known := self._unannounced.packet) is not None:
            log.info("%s", connection_errors.known_limit(self._address, known))
        self._emit = sink
        first: Future[None] = Future()
        thread = threading.Thread(target=self._run, args=(context, first), name=f"mqtt-{self._client_id}", daemon=True)
        thread.start()  # which a limit of threads may refuse
        self._thread = thread
        while not first.done() and not self._cancelled.is_set():
            with contextlib.suppress(TimeoutError, BrokerError, ConfigError):
                first.result(CANCEL_SECONDS)
        if first.cancel():
            return
        try:
            first.result()
        except BrokerError:
            thread.join()
            self._thread = None
            raise

    def cancel_start(self) -> None:
        """Lets ``start`` return without a connection; for a signal to stop, from any thread.

        A name server that does not answer takes half a minute, and nothing can interrupt the attempt.
        """
        self._cancelled.set()

    def subscribe(self, topic: str) -> None:
        """Subscribes at QoS 1, as ``Transport.subscribe`` says."""
        self._subscription_changes.append((topic, True))
        self._wake()

    def unsubscribe(self, topic: str) -> None:
        """Ends a subscription."""
        self._subscription_changes.append((topic, False))
        self._wake()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """Queues one QoS 1 publish and returns its token; one above the broker's packet limit is answered with Refused.

        Raises:
            ValueError: The topic is empty, too long or has a wildcard.
        """
        if not 0 < len(topic.encode()) < 2**16 or "+" in topic or "#" in topic:
            raise ValueError(f"{topic[:80]!r} is no topic to publish to")
        token = next(self._tokens)
        self._outgoing.put(QueuedPublish(token, topic, payload, retain))
        self._wake()
        return token

    def stop(self) -> None:
        """Disconnects as ``Transport.stop`` says; no event follows."""
        self._stopping.set()
        self._wake()
        thread = self._thread  # which a start that fails meanwhile takes back
        if thread is not None and thread is not threading.current_thread():
            thread.join(ABANDON_SECONDS)
            if self._connecting:
                self._abandoned = True
                return  # there is no connection to end, and the thread ends with its attempt, or with this process
            thread.join()
        self._close_wake()

    def _close_wake(self) -> None:
        self._wake_in.close()
        self._wake_out.close()

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            # If the pipe is full, the thread wakes anyway; if it is closed, the thread has ended.
            with contextlib.suppress(OSError):
                self._wake_out.send(b"w")

    # The methods from here on run in the connection's thread.

    def _run(self, context: ssl.SSLContext | None, first: Future[None]) -> None:
        try:
            self._stay_connected(context, first)
        except BaseException as error:
            if first.done():
                raise
            _settle(first, error)
        else:
            _settle(first, BrokerError("stopped before the broker answered"))
        finally:
            self._connecting = False
            if self._abandoned:
                self._close_wake()

    def _stay_connected(self, context: ssl.SSLContext | None, first: Future[None]) -> None:
        """Connects again and again until ``stop``.

        Raises:
            BrokerError: The first connection fails.
        """
        delay = FIRST_RETRY_SECONDS
        failures = RetryLog()
        while not self._stopping.is_set():
            code = 0
            opened = time.monotonic()
            try:
                self._connecting = True
                connection = self._open(context)
                self._connecting = False
            except BrokerError as error:
                self._connecting = False
                told = "still no broker"
                if not first.done():
                    if not (self._patient and isinstance(error, BrokerAwayError)):
                        raise
                    told = "no broker yet, waiting for it"
                    _settle(first)
                if failures.is_news(str(error), time.monotonic()):
                    log.warning("%s: %s", told, error)
                context = self._renew(context)
            else:
                _settle(first)
                failures = RetryLog()
                code = self._serve(connection, opened)
                if not self._short_lived:
                    delay = FIRST_RETRY_SECONDS
                if self._short_lived == SHORT_LIVED:
                    log.warning("%s", connection_errors.short_lived(self._address, SHORT_LIVED, self._unanswered))
            # Two clients with one id disconnect each other in turn; the one that was disconnected waits longest.
            delay = LAST_RETRY_SECONDS if code == connection_errors.TAKEN_OVER else delay
            # Random jitter, so that the devices of a fleet do not all connect to a restarted broker at the same moment.
            self._stopping.wait(delay * random.uniform(0.5, 1.0))
            delay = min(2 * delay, LAST_RETRY_SECONDS)

    def _renew(self, context: ssl.SSLContext | None) -> ssl.SSLContext | None:
        """Reads password and certificates again, which expire and are replaced while this process runs.

        Returns:
            The TLS context for the next attempt: the one before where the files cannot be used, perhaps because they
            are being written.
        """
        self._address = self._address.renewed()
        try:
            return self._address.ssl_context()
        except ConfigError:
            return context

    def _open(self, context: ssl.SSLContext | None) -> MqttConnection:
        """Opens a connection with the newest MQTT version of the broker.

        Later connections use the same version, unless the broker, perhaps another one by then, says that it is older.
        """
        try:
            return self._try(context, self._version)
        except OlderProtocolError as older:
            if self._version_known and older.sign == "silent":
                raise connection_errors.silent(self._address, SILENT_SECONDS) from None
            if self._version_known and older.sign == "ended":
                raise connection_errors.closed_early(self._address) from None
            if older.sign == "ended":
                # Perhaps only this connection was lost. MQTT 5 is tried again, since 3.1.1 announces no packet limit.
                with contextlib.suppress(OlderProtocolError):
                    return self._try(context, self._version)
            return self._try(context, "3.1.1")

    def _try(self, context: ssl.SSLContext | None, version: str) -> MqttConnection:
        events = ConnectionEvents(self._on_received, self._on_published, self._on_subscribed)
        connection = MqttConnection(
            self._address,
            events,
            context=context,
            client_id=self._client_id,
            will=self._will,
            version=version,
            segment_bytes=self._stalls.segment_bytes,
        )
        try:
            self._limits = narrowed(connection.open(self._wake_in, self._stopping), self._unannounced.packet)
        except ClientIdRefusedError:
            connection.abort()
            short = short_client_id(self._client_id)
            if short == self._client_id:
                raise
            log.info("%s refuses the client id %s; tried as %s", self._address.url, self._client_id, short)
            self._client_id = short
            return self._try(context, version)
        except BaseException:
            connection.abort()
            raise
        self._version, self._version_known = version, True
        return connection

    def _serve(self, connection: MqttConnection, opened: float) -> int:
        """Sends and receives until the connection ends; returns the broker's reason code.

        Args:
            connection: Open connection.
            opened: Time at which it was opened, in seconds of the monotonic clock.
        """
        self._heard_at = time.monotonic()
        try:
            self._resubscribe(connection)
            self._emit(Connected(self._limits, self._repeated))
            goodbye = 0.0
            while True:
                self._apply_subscription_changes(connection)
                self._send_queued(connection)
                if self._stopping.is_set():
                    goodbye = goodbye or time.monotonic() + GOODBYE_SECONDS
                    if self._outgoing.idle or time.monotonic() > goodbye:
                        connection.close()
                        return 0
                if connection.step(self._wait_seconds(goodbye=bool(goodbye))):
                    self._heard_at = time.monotonic()
                    self._note_arrival(connection.keepalive_seconds)
                self._drain_wake()
        except ConnectionLostError as lost:
            connection.abort()
            self._note_unanswered()
            keepalive, silent = connection.keepalive_seconds, time.monotonic() - self._heard_at
            if self._stalls.ended(self._heard_at - opened, silent, keepalive):
                log.warning("%s", connection_errors.stalled(self._address, self._stalls.segment_bytes))
            if not self._stalls.is_stall(silent, keepalive):  # a broker ends a connection for its limit at once
                self._note_unannounced_limit(lost)
            self._outgoing.rewind()
            if not self._stopping.is_set():
                self._repeated = self._is_repeated(str(lost), opened, time.monotonic())
                self._emit(Disconnected(str(lost), self._repeated))
            return lost.code

    def _is_repeated(self, reason: str, opened: float, now: float) -> bool:
        """Whether a loss is one more of many connections that ended within seconds, and need not be told again yet."""
        self._short_lived = 0 if now - opened > STEADY_SECONDS else self._short_lived + 1
        if self._short_lived <= SHORT_LIVED:
            self._losses = RetryLog()
            return False
        return not self._losses.is_news(reason, now)

    def _note_unanswered(self) -> None:
        """Records which topics the broker had not answered when the connection ended; it may forbid one of them."""
        asked = [topic for topics in self._unconfirmed.values() for topic in topics]
        longest = self._outgoing.longest()
        if asked:
            self._unanswered = f"the subscription to {', '.join(asked)}"
        else:
            self._unanswered = "" if longest is None else f"the message on {longest.topic}"

    def _note_unannounced_limit(self, lost: ConnectionLostError) -> None:
        """Records the longest unacknowledged publish, which may be what the broker ended the connection for."""
        longest = self._outgoing.longest()
        too_long = lost.code == connection_errors.PACKET_TOO_LARGE
        if longest is None or (lost.code and not too_long):
            return
        found = self._unannounced.lost(longest.size, longest.topic, sure=too_long)
        if found == "shorter":
            packet = self._unannounced.packet or 0
            log.warning("%s", connection_errors.too_long(self._address, longest.topic, longest.size, packet))
        elif found == "barred":
            log.warning("%s", connection_errors.barred(self._address, longest.topic))

    def _resubscribe(self, connection: MqttConnection) -> None:
        """Subscribes to all requested topics again, and waits until the broker has confirmed each of them."""
        self._unconfirmed.clear()
        while self._subscription_changes:
            self._set_subscription(*self._subscription_changes.popleft())
        for batch in _batches(list(self._topics), SUBSCRIPTIONS_PER_PACKET):
            self._send_subscribe(connection, batch)
        deadline = time.monotonic() + RESUBSCRIBE_SECONDS
        while self._unconfirmed and not self._stopping.is_set():
            if time.monotonic() > deadline:
                raise ConnectionLostError("the broker does not confirm subscriptions")
            if connection.step(0.1):
                self._heard_at = time.monotonic()
            self._drain_wake()

    def _apply_subscription_changes(self, connection: MqttConnection) -> None:
        added: list[str] = []
        while self._subscription_changes:
            topic, wanted = self._subscription_changes.popleft()
            self._set_subscription(topic, wanted)
            if wanted:
                added.append(topic)
            else:
                connection.unsubscribe(topic)
        for batch in _batches([topic for topic in added if topic in self._topics], SUBSCRIPTIONS_PER_PACKET):
            self._send_subscribe(connection, batch)

    def _set_subscription(self, topic: str, wanted: bool) -> None:
        if wanted:
            self._topics[topic] = None
        else:
            self._topics.pop(topic, None)

    def _send_subscribe(self, connection: MqttConnection, topics: list[str]) -> None:
        packet_id = connection.subscribe(topics)
        if packet_id is not None:
            self._unconfirmed[packet_id] = topics

    def _send_queued(self, connection: MqttConnection) -> None:
        """Sends as many queued publishes as the window and the rate limit allow."""
        limit = self._limits.max_packet_bytes
        while not self._rate_limit.wait(time.monotonic()):
            item = self._outgoing.take(self._limits.receive_maximum)
            if item is None:
                return
            if limit is not None and item.size > limit:
                reason = f"{item.size} bytes are over the broker's packet limit of {limit}"
                self._emit(Refused(item.topic, reason, item.token, too_long=True))
            else:
                self._rate_limit.spend(item.size, time.monotonic())
                self._outgoing.sent(connection.publish(item.topic, item.payload, retain=item.retain), item)

    def _wait_seconds(self, *, goodbye: bool) -> float:
        """Returns the seconds to wait for the socket: at most until the rate limit allows the next publish."""
        longest = 0.1 if goodbye else 1.0
        wait = self._rate_limit.wait(time.monotonic())
        return min(longest, wait) if wait else longest

    def _drain_wake(self) -> None:
        if self._woken:
            with contextlib.suppress(BlockingIOError):
                self._wake_in.recv(64)
            self._woken = False

    def _note_arrival(self, keepalive_seconds: float) -> None:
        """Emits MessageArriving for an incomplete message, unless a message or an acknowledgement has just arrived.

        The answer to a ping, of which paho does not tell, comes alone: only a second arrival soon after the first one
        is taken for a message. If pings counted, whoever waits for silence that is longer than the keep-alive would
        wait for ever.
        """
        now, packets = time.monotonic(), self._whole_packets
        if packets != self._seen:
            self._seen, self._seen_at, self._part_at = packets, now, -math.inf
            return
        part_at, self._part_at = self._part_at, now
        if now - part_at < min(TOGETHER_SECONDS, keepalive_seconds / 2) and now - self._seen_at >= ARRIVING_SECONDS:
            self._seen_at = now
            self._emit(MessageArriving())

    def _on_received(self, topic: str, payload: bytes, retained: bool) -> None:
        self._whole_packets += 1
        self._emit(Received(topic, payload, retained))

    def _on_published(self, packet_id: int, code: int, reason: str) -> None:
        self._whole_packets += 1
        item = self._outgoing.answered(packet_id)
        if item is None:
            return
        if code >= _REFUSED:
            self._emit(Refused(item.topic, reason, item.token))
        else:
            if self._unannounced.carried(item.size):
                self._remembered.keep(self._address.host, self._address.port, self._unannounced.packet)
            self._emit(Delivered(item.token))

    def _on_subscribed(self, packet_id: int, answers: list[tuple[int, str]]) -> None:
        self._whole_packets += 1
        for topic, (code, reason) in zip(self._unconfirmed.pop(packet_id, []), answers, strict=False):
            if code >= _REFUSED:
                self._emit(Refused(topic, reason))
                continue
            if code < _WANTED_QOS:
                self._warn_of_lower_qos(topic, code)
            self._emit(Subscribed(topic))

    def _warn_of_lower_qos(self, topic: str, granted: int) -> None:
        """Says once what follows from a subscription of lower quality than was requested."""
        if not self._qos_warned:
            self._qos_warned = True
            log.warning("%s", connection_errors.lower_qos(self._address, topic, granted))


def _settle(first: Future[None], error: BaseException | None = None) -> None:
    """Notes that the first connection is made or waited for, or failed, unless that is settled or nobody asks."""
    with contextlib.suppress(InvalidStateError):
        if error is None:
            first.set_result(None)
        else:
            first.set_exception(error)


def _batches(items: list[str], size: int) -> list[list[str]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
