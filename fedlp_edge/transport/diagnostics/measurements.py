"""What a broker really does, found out by trying: each function measures one thing and takes a bounded time.

Everything goes the ways that a fleet's messages go, so that access rules made for a fleet let it pass: in bulk from the
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
from fedlp_edge.transport.diagnostics.device_double import Orders, device_double
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
class Site:
    """Where to measure.

    Attributes:
        coordinator: the broker, with the coordinator's login.
        device: the broker, with a device's login.
        version: of MQTT, as found out by ``first_contact``.
        bulk: topic from the coordinator to the device.
        upload: topic from the device to the coordinator.
        status: topic from the device, retained, to the coordinator.
    """

    coordinator: BrokerAddress
    device: BrokerAddress
    version: str
    bulk: str
    upload: str
    status: str

    def visit(self, role: str, *, will: LastWill | None = None, hold: bool = False) -> DiagnosticClient:
        """A client, not yet connected, in the role of ``coordinator`` or ``device``."""
        address = self.coordinator if role == "coordinator" else self.device
        return DiagnosticClient(address, self.version, client_name(), will=will, hold=hold)

    @contextmanager
    def pair(self, *, hold: bool = False, upward: bool = False) -> Iterator[tuple[DiagnosticClient, DiagnosticClient]]:
        """A coordinator and a device that hears the bulk topic; ``upward`` a device and a coordinator that hears it."""
        with self.visit("coordinator", hold=hold) as boss, self.visit("device", hold=hold) as thing:
            sender, reader = (thing, boss) if upward else (boss, thing)
            reader.subscribe(self.upload if upward else self.bulk)
            yield sender, reader


@dataclass(frozen=True)
class Queue:
    """What is held for a subscriber that acknowledges nothing.

    Attributes:
        on_the_way: messages sent to it without acknowledgement.
        waiting: messages that were delivered after those; at least so many if nothing was dropped.
        dropped: whether some of the messages never came.
    """

    on_the_way: int
    waiting: int
    dropped: bool


def client_name() -> str:
    """A client id that nobody else has."""
    return f"fedlp-doctor-{secrets.token_hex(4)}"


def first_contact(address: BrokerAddress) -> BrokerLimits:
    """Connects as a service of a fleet would; returns what the broker announces.

    Raises:
        BrokerError: in words, why it is not possible.
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


def software(site: Site) -> str:
    """What the broker says of itself below ``$SYS``; empty if it says nothing."""
    with site.visit("coordinator") as client:
        if client.subscribe("$SYS/broker/version"):
            return ""
        message = client.next(1.0)
        return message.payload.decode("utf-8", "replace")[:80] if message else ""


def largest_packet(site: Site, announced: int | None) -> int:
    """Bytes of the largest packet that arrives either way, of at most 4 MiB; 0 if not even a small one does."""
    downward = _largest(site, min(announced or LARGEST_TRIED, LARGEST_TRIED), upward=False)
    return _largest(site, downward, upward=True) if downward else 0


def _largest(site: Site, most: int, *, upward: bool) -> int:
    if _carries(site, most, upward=upward):
        return most
    works, fails = 0, most
    while fails > SMALLEST_TRIED and not works:
        if _carries(site, fails // 2, upward=upward):
            works = fails // 2
        else:
            fails //= 2
    for _ in range(HALVINGS if works else 0):
        middle = (works + fails) // 2
        works, fails = (middle, fails) if _carries(site, middle, upward=upward) else (works, middle)
    return works


def _carries(site: Site, packet: int, *, upward: bool) -> bool:
    """Whether a packet of so many bytes, everything included, comes through."""
    topic = site.upload if upward else site.bulk
    lengths = 1 + (1 if packet < 130 else 2 if packet < 16387 else 3 if packet < 2097156 else 4)
    payload = bytes(packet - lengths - 2 - len(topic.encode()) - 2 - (site.version == "5"))
    with site.pair(upward=upward) as (sender, reader):
        if sender.refusal(sender.publish(topic, payload)):
            return False
        message = reader.next(ARRIVAL_SECONDS)
        return message is not None and len(message.payload) == len(payload)


def renamed(site: Site, sender: str, topic: str) -> str | None:
    """The name under which a message arrives that carries its own; None if it does not, or under that very name.

    Args:
        site: where to measure.
        sender: ``coordinator`` or ``device``; the other one listens to everything that it may hear.
        topic: to publish to.
    """
    reader = "device" if sender == "coordinator" else "coordinator"
    mark = f"{topic} {secrets.token_hex(8)}".encode()
    with site.visit(sender) as speaking, site.visit(reader) as hearing:
        if hearing.subscribe("#"):
            return None
        speaking.refusal(speaking.publish(topic, mark))
        until = time.monotonic() + RENAMED_SECONDS
        while (left := until - time.monotonic()) > 0 and (message := hearing.next(left)):
            if message.payload == mark:
                return None if message.topic == topic else message.topic
    return None


def largest_retained(site: Site, packet: int) -> int:
    """Bytes of the largest retained payload that a later subscriber gets; 0 if none does."""
    largest = 0
    with site.visit("device") as device:
        for size in RETAINED_TRIED:
            if size > packet - 512 or not device.alive:
                break
            if device.refusal(device.publish(site.status, b"r" * size, retain=True)):
                break
            with site.visit("coordinator") as coordinator:
                coordinator.subscribe(site.status)
                message = coordinator.next(2.0)
            if message is None or not message.retained or len(message.payload) != size:
                break
            largest = size
    _forget(site)
    return largest


def last_will_works(site: Site) -> bool:
    """Whether a device that vanishes is reported."""
    with site.visit("coordinator") as coordinator:
        coordinator.subscribe(site.status)
        device = site.visit("device", will=LastWill(site.status, b"gone"))
        device.__enter__()
        device.vanish()
        message = coordinator.next()
    _forget(site)
    return message is not None and message.payload == b"gone"


def _forget(site: Site) -> None:
    with site.visit("device") as device:
        device.refusal(device.publish(site.status, b"", retain=True))


def queue_depth(site: Site) -> Queue:
    """What the broker holds for a reader that acknowledges nothing, of at most 1200 messages."""
    with site.pair(hold=True) as (sender, reader):
        until = time.monotonic() + QUEUE_SECONDS
        sent = [sender.publish(site.bulk, number.to_bytes(4)) for number in range(QUEUE_TRIED)]
        taken = sum(not sender.refusal(number, max(0.0, until - time.monotonic())) for number in sent)
        on_the_way = reader.count(quiet=0.5, most=5.0)
        reader.release()
        waiting = reader.count(quiet=1.0, most=QUEUE_SECONDS)
    return Queue(on_the_way, waiting, dropped=on_the_way + waiting < taken)


def round_trip(site: Site) -> float | None:
    """Median seconds from a publish to its arrival at another client; None if nothing arrives."""
    times = []
    with site.pair() as (sender, reader):
        for _ in range(PINGS):
            began = time.perf_counter()
            sender.publish(site.bulk, b"ping")
            if reader.next(2.0) is None:
                break
            times.append(time.perf_counter() - began)
    return statistics.median(times) if times else None


def answer_of_a_process(site: Site) -> float | None:
    """Seconds until a device in a process of its own has answered the coordinator; None if it never does."""
    orders = Orders.of(site.device, hears=site.bulk, answers=site.upload)
    with device_double(orders) as ready, site.visit("coordinator") as boss:
        if not ready or boss.subscribe(site.upload):
            return None
        question = secrets.token_bytes(32)
        began = time.perf_counter()
        boss.publish(site.bulk, question)
        while message := boss.next():
            if message.payload == question:
                return time.perf_counter() - began
    return None


def throughput(site: Site, chunk: int) -> float:
    """Bytes per second from one client to another, in chunks, a few of them ahead."""
    payload = bytes(chunk)
    with site.pair() as (sender, reader):
        began = time.perf_counter()
        ahead = received = sent = 0
        while received < THROUGHPUT_BYTES and time.perf_counter() - began < THROUGHPUT_SECONDS:
            while ahead < AHEAD and sent < THROUGHPUT_BYTES:
                sender.publish(site.bulk, payload)
                ahead, sent = ahead + 1, sent + chunk
            if reader.next(2.0) is None:
                break
            ahead, received = ahead - 1, received + chunk
        return received / (time.perf_counter() - began)
