"""This module implements ``fedlp doctor broker``, which checks whether a broker can carry a fleet, and how fast.

It connects in both roles, tries every topic of a fleet, then measures. ``findings`` judges the figures; measuring
itself judges nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedlp_edge.cli.broker_file import BrokerFile, checked_name, read_broker_file
from fedlp_edge.cli.doctor.findings import BrokerMeasurements, Finding, Route, findings_of, key_lines
from fedlp_edge.config.toml import load_toml
from fedlp_edge.errors import BrokerError
from fedlp_edge.reporting.console import open_console
from fedlp_edge.transport.address import BrokerAddress
from fedlp_edge.transport.base import BrokerLimits
from fedlp_edge.transport.diagnostics import measurements
from fedlp_edge.transport.diagnostics.measurements import MeasuredBroker
from fedlp_edge.transport.presets import recognise
from fedlp_edge.transport.remembered import remembered_limits
from fedlp_edge.wire.chunks import DEFAULT_CHUNK_BYTES, chunk_bytes_for
from fedlp_edge.wire.topics import Branch, Topics

EXIT_UNFIT = 1
_MARKS = {"ok": ("ok", "green"), "warning": ("warn", "yellow"), "failure": ("FAILS", "bold red")}

T = TypeVar("T")


@dataclass(frozen=True)
class Target:
    """The broker to check, with the logins of both roles.

    Attributes:
        coordinator: Address with the coordinator's login.
        device: Address with a device's login.
        fleet: Name of the fleet whose topics are tried.
        id: Id of the device.
    """

    coordinator: BrokerAddress
    device: BrokerAddress
    fleet: str
    id: str


class Report(msgspec.Struct):
    """The outcome; ``--json`` prints it.

    Attributes:
        fit: Whether a fleet would work.
        keys: Lines for the ``[broker]`` table.
    """

    broker: str
    fit: bool
    findings: tuple[Finding, ...]
    measured: BrokerMeasurements
    keys: tuple[str, ...] = ()


@dataclass
class _Visit:
    target: Target
    measured: BrokerMeasurements = field(default_factory=BrokerMeasurements)
    findings: list[Finding] = field(default_factory=list)


def run_doctor(
    url: str | None,
    config: Path | None,
    device_config: Path | None,
    fleet: str | None,
    device: str | None,
    *,
    as_json: bool,
) -> int:
    """Examines a broker and prints what was found.

    Returns:
        0 if a fleet would work, perhaps slowly; 1 if it would not.

    Raises:
        ConfigError: A wrong URL, file or option.
    """
    target = resolve_target(url, config, device_config, fleet, device)
    console = open_console(stderr=as_json)
    with console.status(f"examining {target.coordinator.url}"):
        report = examine(target)
    if as_json:
        print(msgspec.json.encode(report).decode())
    else:
        _print(report, open_console())
    return 0 if report.fit else EXIT_UNFIT


def resolve_target(
    url: str | None, config: Path | None, device_config: Path | None, fleet: str | None, device: str | None
) -> Target:
    """Merges the URL, the files and the environment into a target.

    Raises:
        ConfigError: Neither URL nor file, a password in the URL, or a malformed name.
    """
    own = read_broker_file(config, url, "fedlp doctor broker")
    others = load_toml(device_config, BrokerFile) if device_config else own
    name = fleet or own.fleet or others.fleet or measurements.client_name().removeprefix("fedlp-")
    boss, thing = own.address(url), others.address(url)
    user = (thing.username or "").replace("~", ".")  # as in topics
    id = device or others.id or (user if others is not own and user else "doctor")
    return Target(boss, thing, checked_name("fleet", name), checked_name("device", id))


def examine(target: Target) -> Report:
    """Measures everything that can be measured, and judges the figures."""
    visit = _Visit(target)
    limits = _connect(visit)
    if limits is not None:
        visit.measured.protocol = limits.protocol
        visit.measured.receive_maximum = limits.receive_maximum
        _measure(visit, limits)
        visit.findings += findings_of(visit.measured, target.coordinator)
    fit = all(finding.level != "failure" for finding in visit.findings)
    keys = key_lines(visit.measured, target.coordinator) if limits else ()
    return Report(target.coordinator.url, fit, tuple(visit.findings), visit.measured, keys)


def _connect(visit: _Visit) -> BrokerLimits | None:
    """Connects in both roles; None if one of them cannot."""
    limits = None
    for role, address in (("coordinator", visit.target.coordinator), ("device", visit.target.device)):
        try:
            limits = measurements.announced_limits(address)
        except BrokerError as error:
            visit.findings.append(Finding("connection", "failure", f"not as {role}", str(error)))
            return None
    address = visit.target.coordinator
    if address.username is None and address.certificate is None and not _loopback(address.host):
        words = "anybody who reaches this port can join and read: set logins and access rules, see docs/security.md"
        visit.findings.append(Finding("login", "warning", "none needed", words))
    else:
        visit.findings.append(Finding("connection", "ok", "both roles", ""))
    return limits


def _measure(visit: _Visit, limits: BrokerLimits) -> None:
    target, measured = visit.target, visit.measured
    topics = Topics(target.fleet)
    measured_broker = MeasuredBroker(
        target.coordinator,
        target.device,
        limits.protocol,
        bulk=topics.of("repeat", target.id),
        upload=topics.of("upload", target.id),
        status=topics.of("device", target.id),
    )
    measured.software = _attempt(lambda: measurements.software(measured_broker)) or ""
    measured.preset = recognise(target.coordinator.host, measured.software).name
    measured.blocked = _attempt(lambda: _blocked(measured_broker, topics, target.id, measured))
    if measured.blocked != ():
        return  # the further measurements need the same topics
    if target.device.username != target.coordinator.username:
        measured.forgeable = _attempt(lambda: _forgeable(measured_broker, topics))
    measured.announced = limits.max_packet_bytes if limits.protocol == "5" else None
    measured.packet = _attempt(lambda: measurements.largest_packet(measured_broker, limits.max_packet_bytes))
    # Of a limit above what is tried, that it carries what was tried says nothing.
    most = measurements.LARGEST_TRIED
    measured.packet_limited = measured.packet != most or limits.max_packet_bytes == most
    if not measured.packet:
        return
    packet = measured.packet
    silent = measured.packet_limited and limits.max_packet_bytes is None
    # What a fleet on this machine has guessed is replaced.
    for address in (measured_broker.coordinator, measured_broker.device):
        remembered_limits().keep(address.host, address.port, packet if silent else None)
    echo = topics.of("echo", target.id)
    measured.echo = _attempt(lambda: _closed(measured_broker, "device", echo, echo) is None)
    measured.retained = _attempt(lambda: measurements.largest_retained(measured_broker, packet))
    measured.last_will = _attempt(lambda: measurements.last_will_works(measured_broker))
    queue = _attempt(lambda: measurements.queue_depth(measured_broker))
    if queue is not None:
        measured.queue, measured.queue_dropped, measured.in_flight = queue.waiting, queue.dropped, queue.in_flight
    measured.answer_seconds = _attempt(lambda: measurements.answer_of_a_process(measured_broker))
    measured.round_trip_seconds = _attempt(lambda: measurements.round_trip(measured_broker))
    try:
        measured.chunk_bytes = chunk_bytes_for(BrokerLimits(limits.protocol, packet, 1), DEFAULT_CHUNK_BYTES)
    except BrokerError:
        return
    chunk = measured.chunk_bytes
    measured.bytes_per_second = _attempt(lambda: measurements.throughput(measured_broker, chunk))


def _blocked(
    measured_broker: MeasuredBroker, topics: Topics, device: str, measured: BrokerMeasurements
) -> tuple[Route, ...]:
    """Returns the routes of a fleet's messages that the broker blocks, with the reason as far as it is known.

    At the first one it is found out whether topics are renamed; if so, ``measured`` has it, and the rest is not tried.
    """
    down: tuple[Branch, ...] = ("down", "repeat")
    up: tuple[Branch, ...] = ("device", "up", "upload")
    ways = [
        ("coordinator", topics.coordinator, topics.coordinator),
        *(("coordinator", topics.of(branch, device), topics.of(branch, device)) for branch in down),
        ("coordinator", topics.of("model", "L1"), topics.of("model", "L1")),
        *(("device", topics.of(branch, device), topics.of(branch, "+")) for branch in up),
        ("device", topics.of("device", device), topics.of("device", device)),
    ]
    found: list[Route] = []
    for sender, topic, pattern in ways:
        route = _closed(measured_broker, sender, topic, pattern)
        if route is None:
            continue
        if not found and (renamed := _renamed(measured_broker)):
            measured.renamed = renamed
            return (route,)
        found.append(route)
    return tuple(found)


def _closed(measured_broker: MeasuredBroker, sender: str, topic: str, pattern: str) -> Route | None:
    """Returns a blocked route, with the reason as far as it is known; None if a message passes."""
    reader = "coordinator" if pattern.endswith("+") else "device"
    with ExitStack() as stack:
        speaking = stack.enter_context(measured_broker.client(sender))
        # Where user names are client ids, two connections of one login would end each other.
        hearing = speaking if sender == reader else stack.enter_context(measured_broker.client(reader))
        refused = hearing.subscribe(pattern)
        unsent = speaking.refusal(speaking.publish(topic, b"doctor"))
        heard = bool(hearing.next(2.0)) if not refused and not unsent else False
    if unsent:
        return Route(sender, "publish", topic, unsent)
    if refused:
        return Route(reader, "subscribe", pattern, refused)
    return None if heard else Route(sender, "publish", topic, f"nothing arrives at the {reader} on {pattern}")


def _renamed(measured_broker: MeasuredBroker) -> tuple[str, str] | None:
    """Returns a topic and its changed name at the subscriber, if the broker changes it."""
    for sender, topic in (("device", measured_broker.upload), ("coordinator", measured_broker.bulk)):
        if heard := measurements.renamed(measured_broker, sender, topic):
            return topic, heard
    return None


def _forgeable(measured_broker: MeasuredBroker, topics: Topics) -> bool:
    """Returns whether the device's login can publish under the name of a device that does not exist."""
    with measured_broker.client("coordinator") as hearing, measured_broker.client("device") as speaking:
        hearing.subscribe(topics.of("up", "+"))
        speaking.refusal(speaking.publish(topics.of("up", "fedlp-doctor"), b"doctor"))
        return hearing.next(1.0) is not None


def _attempt(measure: Callable[[], T]) -> T | None:
    """Returns the result of a measurement; None if the broker ends the connection."""
    try:
        return measure()
    except (BrokerError, OSError):
        return None


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _print(report: Report, console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("found", no_wrap=True)
    table.add_column("what to do", overflow="fold")
    for finding in report.findings:
        mark, style = _MARKS[finding.level]
        table.add_row(finding.check, Text(mark, style=style), finding.found, finding.advice)
    title = f"{report.broker} {report.measured.software}".strip()
    console.print(Text(title, style="bold cyan"))
    console.print(table)
    console.print()
    if report.keys:
        console.print("For the [broker] table of the fleet's file and of the agents' files:", markup=False)
        for line in report.keys:
            console.print(f"  {line}", markup=False, highlight=False)
        console.print()
    slow = any(finding.level == "warning" for finding in report.findings)
    verdict = (
        "A fleet would not work with this broker."
        if not report.fit
        else (
            "A fleet works with this broker; see above for what holds it back."
            if slow
            else "A fleet works with this broker."
        )
    )
    console.print(Text(verdict, style="bold red" if not report.fit else "bold green"))
