"""This module measures a broker: each function measures one property in a bounded time.

All messages use the topics of a fleet, so that access rules made for a fleet let them pass: bulk data from the
coordinator to one device, and a retained status from a device to the coordinator.
"""

from __future__ import annotations

import secrets
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fedlp_edge.transport.address import BrokerAddress
from fedlp_edge.transport.base import BrokerLimits, Connected, LastWill, TransportEvent
from fedlp_edge.transport.diagnostics.client import DiagnosticClient
from fedlp_edge.transport.diagnostics.device_double import DoubleSettings, device_double
from fedlp_edge.transport.mqtt.transport import MqttTransport

LARGEST_TRIED = 4 << 20
SMALLEST_TRIED = 1 << 10
HALVINGS = 8
RETAINED_TRIED = (1 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20)
QUEUE_TRIED = 1200
QUEUE_SECONDS = 15.0
PINGS = 20
THROUGHPUT_BYTES = 16 << 20
THROUGHPUT_SECONDS = 3.0
AHEAD = 16
ARRIVAL_SECONDS = 3.0
RENAMED_SECONDS = 1.5


@dataclass(frozen=True)
class MeasuredBroker:
    """The broker, the two logins and the topics with which to measure.

    Attributes:
        coordinator: Address of the broker with the coordinator's login.
        device: Address of the broker with a device's login.
        version: MQTT version, as ``announced_limits`` found it.
        bulk: Topic from the coordinator to the device.
        upload: Topic from the device to the coordinator.
        status: Topic of the device's retained status, read by the coordinator.
    """

    coordinator: BrokerAddress
    device: BrokerAddress
    version: str
    bulk: str
    upload: str
    status: str

    def client(self, role: str, *, will: LastWill | None = None, hold: bool = False) -> DiagnosticClient:
        """Makes a client, not yet connected, in the role of ``coordinator`` or ``device``."""
        address = self.coordinator if role == "coordinator" else self.device
        return DiagnosticClient(address, self.version, client_name(), will=will, hold=hold)

    @contextmanager
    def publisher_and_subscriber(
        self, *, hold: bool = False, upward: bool = False
    ) -> Iterator[tuple[DiagnosticClient, DiagnosticClient]]:
        """Yields a publisher and a subscriber: of the bulk topic, or of the upload topic with ``upward``."""
        with self.client("coordinator", hold=hold) as coordinator, self.client("device", hold=hold) as device:
            sender, reader = (device, coordinator) if upward else (coordinator, device)
            reader.subscribe(self.upload if upward else self.bulk)
            yield sender, reader


@dataclass(frozen=True)
class Queue:
    """The messages that a broker holds for a subscriber that acknowledges nothing.

    Attributes:
        in_flight: Messages that the broker sends without an acknowledgement.
        waiting: Messages delivered after the first acknowledgement; a lower bound of the queue if none was dropped.
        dropped: Whether some of the messages never arrived.
    """

    in_flight: int
    waiting: int
    dropped: bool


def client_name() -> str:
    """Returns a client id that no other client has."""
    return f"fedlp-doctor-{secrets.token_hex(4)}"


def announced_limits(address: BrokerAddress) -> BrokerLimits:
    """Connects as a service of a fleet would; returns the limits that the broker announces.

    Raises:
        BrokerError: The connection fails.
    """
    found: list[BrokerLimits] = []
    there = threading.Event()

    def sink(event: TransportEvent) -> None:
        if isinstance(event, Connected):
            found.append(event.limits)
            there.set()

    transport = MqttTransport(address, client_name())
    transport.start(sink)
    there.wait(10.0)
    transport.stop()
    return found[0]


def software(measured_broker: MeasuredBroker) -> str:
    """Returns the name or version that the broker publishes below ``$SYS``; empty if it publishes none."""
    with measured_broker.client("coordinator") as client:
        if client.subscribe("$SYS/broker/version"):
            return ""
        message = client.next(1.0)
        return message.payload.decode("utf-8", "replace")[:80] if message else ""


def largest_packet(measured_broker: MeasuredBroker, announced: int | None) -> int:
    """Returns the bytes of the largest packet, up to 4 MiB, that arrives in both directions; 0 if no packet does."""
    downward = _largest(measured_broker, min(announced or LARGEST_TRIED, LARGEST_TRIED), upward=False)
    return _largest(measured_broker, downward, upward=True) if downward else 0


def _largest(measured_broker: MeasuredBroker, most: int, *, upward: bool) -> int:
    if _carries(measured_broker, most, upward=upward):
        return most
    works, fails = 0, most
    while fails > SMALLEST_TRIED and not works:
        if _carries(measured_broker, fails // 2, upward=upward):
            works = fails // 2
        else:
            fails //= 2
    for _ in range(HALVINGS if works else 0):
        middle = (works + fails) // 2
        works, fails = (middle, fails) if _carries(measured_broker, middle, upward=upward) else (works, middle)
    return works


def _carries(measured_broker: MeasuredBroker, packet: int, *, upward: bool) -> bool:
    """Returns whether a packet of ``packet`` bytes, header included, arrives."""
    topic = measured_broker.upload if upward else measured_broker.bulk
    lengths = 1 + (1 if packet < 130 else 2 if packet < 16387 else 3 if packet < 2097156 else 4)
    payload = bytes(packet - lengths - 2 - len(topic.encode()) - 2 - (measured_broker.version == "5"))
    with measured_broker.publisher_and_subscriber(upward=upward) as (sender, reader):
        if sender.refusal(sender.publish(topic, payload)):
            return False
        message = reader.next(ARRIVAL_SECONDS)
        return message is not None and len(message.payload) == len(payload)


def renamed(measured_broker: MeasuredBroker, sender: str, topic: str) -> str | None:
    """Returns the topic under which a message arrives if the broker changes it; None if unchanged, or none arrives.

    Args:
        measured_broker: Broker, logins and topics.
        sender: Publisher, ``coordinator`` or ``device``; the other one subscribes to everything that it may read.
        topic: Topic to publish to.
    """
    reader = "device" if sender == "coordinator" else "coordinator"
    mark = f"{topic} {secrets.token_hex(8)}".encode()
    with measured_broker.client(sender) as speaking, measured_broker.client(reader) as hearing:
        if hearing.subscribe("#"):
            return None
        speaking.refusal(speaking.publish(topic, mark))
        until = time.monotonic() + RENAMED_SECONDS
        while (left := until - time.monotonic()) > 0 and (message := hearing.next(left)):
            if message.payload == mark:
                return None if message.topic == topic else message.topic
    return None


def largest_retained(measured_broker: MeasuredBroker, packet: int) -> int:
    """Returns the bytes of the largest retained payload that a later subscriber gets; 0 if it gets none."""
    largest = 0
    with measured_broker.client("device") as device:
        for size in RETAINED_TRIED:
            if size > packet - 512 or not device.alive:
                break
            if device.refusal(device.publish(measured_broker.status, b"r" * size, retain=True)):
                break
            with measured_broker.client("coordinator") as coordinator:
                coordinator.subscribe(measured_broker.status)
                message = coordinator.next(2.0)
            if message is None or not message.retained or len(message.payload) != size:
                break
            largest = size
    _forget(measured_broker)
    return largest


def last_will_works(measured_broker: MeasuredBroker) -> bool:
    """Returns whether the broker publishes the last will of a device whose connection is cut."""
    with measured_broker.client("coordinator") as coordinator:
        coordinator.subscribe(measured_broker.status)
        device = measured_broker.client("device", will=LastWill(measured_broker.status, b"gone"))
        device.__enter__()
        device.drop_connection()
        message = coordinator.next()
    _forget(measured_broker)
    return message is not None and message.payload == b"gone"


def _forget(measured_broker: MeasuredBroker) -> None:
    with measured_broker.client("device") as device:
        device.refusal(device.publish(measured_broker.status, b"", retain=True))


def queue_depth(measured_broker: MeasuredBroker) -> Queue:
    """Measures how many messages, up to 1200, the broker holds for a subscriber that acknowledges nothing."""
    with measured_broker.publisher_and_subscriber(hold=True) as (sender, reader):
        until = time.monotonic() + QUEUE_SECONDS
        sent = [sender.publish(measured_broker.bulk, number.to_bytes(4)) for number in range(QUEUE_TRIED)]
        taken = sum(not sender.refusal(number, max(0.0, until - time.monotonic())) for number in sent)
        in_flight = reader.count(quiet=0.5, most=5.0)
        reader.release()
        waiting = reader.count(quiet=1.0, most=QUEUE_SECONDS)
    return Queue(in_flight, waiting, dropped=in_flight + waiting < taken)


def round_trip(measured_broker: MeasuredBroker) -> float | None:
    """Returns the median seconds from a publish to its arrival at another client; None if nothing arrives."""
    times = []
    with measured_broker.publisher_and_subscriber() as (sender, reader):
        for _ in range(PINGS):
            began = time.perf_counter()
            sender.publish(measured_broker.bulk, b"ping")
            if reader.next(2.0) is None:
                break
            times.append(time.perf_counter() - began)
    return statistics.median(times) if times else None


def answer_of_a_process(measured_broker: MeasuredBroker) -> float | None:
    """Returns the seconds until a device in another process has answered the coordinator; None if it never does."""
    orders = DoubleSettings.of(measured_broker.device, hears=measured_broker.bulk, answers=measured_broker.upload)
    with device_double(orders) as ready, measured_broker.client("coordinator") as boss:
        if not ready or boss.subscribe(measured_broker.upload):
            return None
        question = secrets.token_bytes(32)
        began = time.perf_counter()
        boss.publish(measured_broker.bulk, question)
        while message := boss.next():
            if message.payload == question:
                return time.perf_counter() - began
    return None


def throughput(measured_broker: MeasuredBroker, chunk: int) -> float:
    """Returns the bytes per second from one client to another, in chunks, a few of them unacknowledged."""
    payload = bytes(chunk)
    with measured_broker.publisher_and_subscriber() as (sender, reader):
        began = time.perf_counter()
        ahead = received = sent = 0
        while received < THROUGHPUT_BYTES and time.perf_counter() - began < THROUGHPUT_SECONDS:
            while ahead < AHEAD and sent < THROUGHPUT_BYTES:
                sender.publish(measured_broker.bulk, payload)
                ahead, sent = ahead + 1, sent + chunk
            if reader.next(2.0) is None:
                break
            ahead, received = ahead - 1, received + chunk
        return received / (time.perf_counter() - began)
