"""This module judges the figures of a broker for a fleet. Pure.

A failure keeps a fleet from working; a warning means that it is slower, or notices less. Each says what to set.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from fedlp_edge.reporting.formatting import format_bytes
from fedlp_edge.transport.address import BrokerAddress
from fedlp_edge.transport.presets import PRESETS, BrokerPreset
from fedlp_edge.wire.chunks import GOOD_PACKET_BYTES

Level = Literal["ok", "warning", "failure"]

SMALLEST_PACKET = 2048
GOOD_PACKET = GOOD_PACKET_BYTES
SMALLEST_RETAINED = 1024
SMALLEST_QUEUE = 8
GOOD_QUEUE = 200
SLOW_ROUND_TRIP = 0.2
SLOW_BYTES_PER_SECOND = 1e6


class Finding(msgspec.Struct, frozen=True):
    """One line of the report.

    Attributes:
        check: Name of the check.
        found: The figure, for people.
        advice: Advice for the operator; empty if nothing is to be done.
    """

    check: str
    level: Level
    found: str
    advice: str = ""


class Route(msgspec.Struct, frozen=True):
    """A route of a fleet's messages that the broker blocks."""

    role: str
    action: str
    topic: str
    reason: str


class BrokerMeasurements(msgspec.Struct):
    """Figures; None where they could not be had.

    Attributes:
        software: Name and version that the broker reports.
        preset: Preset that fits it.
        blocked: Ways of a fleet's messages that do not pass.
        forgeable: Whether a device's login can publish as another device; None if both roles share one login.
        echo: Whether a device hears itself, by which it measures its link.
        renamed: Topic that was published to and topic under which the message arrives; None if they are equal.
        announced: Largest packet as the broker says; None if it does not.
        packet: Largest packet that arrives either way, bytes; of at most 4 MiB.
        packet_limited: Whether larger ones fail.
        retained: Largest retained payload, bytes; of at most 1 MiB.
        last_will: Whether it is published.
        in_flight: Messages sent to a subscriber without its acknowledgement.
        queue: Messages held beyond those.
        queue_dropped: Whether that was all it could hold.
        answer_seconds: Seconds until a device in a process of its own has answered; None if it does not.
        chunk_bytes: Payload of the chunks that a fleet would send.
        bytes_per_second: Bytes per second from client to client.
    """

    protocol: str = ""
    software: str = ""
    preset: str = "generic"
    receive_maximum: int | None = None
    blocked: tuple[Route, ...] | None = None
    forgeable: bool | None = None
    echo: bool | None = None
    renamed: tuple[str, str] | None = None
    announced: int | None = None
    packet: int | None = None
    packet_limited: bool = False
    retained: int | None = None
    last_will: bool | None = None
    in_flight: int | None = None
    queue: int | None = None
    queue_dropped: bool = False
    chunk_bytes: int | None = None
    answer_seconds: float | None = None
    round_trip_seconds: float | None = None
    bytes_per_second: float | None = None


def findings_of(measured: BrokerMeasurements, address: BrokerAddress) -> list[Finding]:
    """All findings beyond the connection itself, in the order in which they were measured.

    Args:
        measured: Figures.
        address: Address with the limits that a fleet would assume of the broker.
    """
    preset = next(known for known in PRESETS.values() if known.name == measured.preset)
    older = "announces no limits; these were found by trying" if measured.protocol != "5" else ""
    found = [Finding("protocol", "ok", f"MQTT {measured.protocol}", older)]
    if measured.blocked is None:
        return [
            *found,
            Finding("access rules", "failure", "not measured", "the broker ended the connections; see its log"),
        ]
    if measured.renamed:
        return [*found, _renamed(*measured.renamed)]
    if measured.blocked:
        return [*found, *(_blocked(route) for route in measured.blocked)]
    if measured.forgeable:
        words = "this device's login may speak for others, and for the coordinator: see the rules in docs/security.md"
        found.append(Finding("access rules", "warning", "too wide", words))
    else:
        found.append(Finding("access rules", "ok", "all ways are open"))
    found.append(_packet(measured, preset))
    if not measured.packet:
        return found
    return [
        *found,
        _echo(measured),
        _retained(measured),
        _last_will(measured),
        _queue(measured, preset, address),
        _answer(measured),
        _round_trip(measured),
        _throughput(measured),
    ]


def key_lines(measured: BrokerMeasurements, address: BrokerAddress) -> tuple[str, ...]:
    """Lines for the ``[broker]`` table that make a fleet know what was measured and nobody announces."""
    lines = []
    preset = next(known for known in PRESETS.values() if known.name == measured.preset)
    if _assumptions(preset) != _assumptions(address.preset) and preset.name != "generic":
        lines.append(f'preset = "{preset.name}"')
    assumed = preset.max_queued_messages if address.max_queued_messages is None else address.max_queued_messages
    if measured.queue_dropped and measured.queue is not None and measured.queue != assumed:
        lines.append(f"max_queued_messages = {measured.queue}")
    silent = measured.announced is None or (measured.packet or 0) < measured.announced
    unannounced = measured.packet if silent and measured.packet_limited else None
    if unannounced and (address.max_packet_bytes is None or address.max_packet_bytes > unannounced):
        lines.append(f"max_packet_bytes = {unannounced}")
    return tuple(lines)


def _assumptions(preset: BrokerPreset) -> tuple[float | None, ...]:
    """What a preset changes for a fleet whose broker announces the rest."""
    return (
        preset.max_payload_bytes,
        preset.max_queued_messages,
        preset.publishes_per_second,
        preset.bytes_per_second,
    )


def _renamed(sent: str, heard: str) -> Finding:
    words = (
        f"{sent} arrives as {heard}: a listener with a mount_point, or a bridge with a prefix, stands between "
        "coordinator and device; let both use one without"
    )
    return Finding("topics", "failure", "renamed", words)


def _blocked(route: Route) -> Finding:
    return Finding(
        "access rules",
        "failure",
        f"{route.role} cannot {route.action}",
        f"{route.topic}: {route.reason}; allow it in the broker's access rules, docs/security.md has a set",
    )


def _packet(measured: BrokerMeasurements, preset: BrokerPreset) -> Finding:
    size = measured.packet
    if size is None or size < SMALLEST_PACKET:
        found = "not measured" if size is None else format_bytes(size)
        return Finding("largest packet", "failure", found, f"set {preset.packet_setting} to {GOOD_PACKET} or more")
    found = format_bytes(size) if measured.packet_limited else f"{format_bytes(size)} and more"
    if measured.packet_limited and (measured.announced is None or size < measured.announced):
        advice = (
            f"not announced: each machine finds it out in some seconds, or set max_packet_bytes = {size} in [broker]; "
            f"for the usual chunks raise the broker's limit (message_size_limit in Mosquitto) to {GOOD_PACKET}"
        )
        return Finding("largest packet", "warning" if size < GOOD_PACKET else "ok", found, advice)
    if size < GOOD_PACKET:
        advice = f"works, in more and smaller chunks; for the usual ones set {preset.packet_setting} to {GOOD_PACKET}"
        return Finding("largest packet", "warning", found, advice)
    return Finding("largest packet", "ok", found)


def _echo(measured: BrokerMeasurements) -> Finding:
    if measured.echo:
        return Finding("echo", "ok", "comes back")
    words = "devices cannot measure their links: allow them to publish and read echo/ID, docs/security.md has the rule"
    return Finding("echo", "warning", "does not come back", words)


def _retained(measured: BrokerMeasurements) -> Finding:
    size = measured.retained
    if not size or size < SMALLEST_RETAINED:
        advice = (
            "allow retained messages: devices and coordinator find each other by them (retain_available in Mosquitto)"
        )
        return Finding("retained messages", "failure", "not delivered", advice)
    return Finding("retained messages", "ok", f"up to {format_bytes(size)} tried")


def _last_will(measured: BrokerMeasurements) -> Finding:
    if measured.last_will:
        return Finding("last will", "ok", "published")
    advice = "allow last wills: without them a device that vanishes is waited for until the round's deadline"
    return Finding("last will", "warning", "not published", advice)


def _queue(measured: BrokerMeasurements, preset: BrokerPreset, address: BrokerAddress) -> Finding:
    held = measured.queue
    if held is None or measured.in_flight is None:
        advice = (
            f"see the broker's documentation, and set max_queued_messages in [broker] if it is not {GOOD_QUEUE} or more"
        )
        return Finding("queue", "warning", "not measured", advice)
    if not measured.queue_dropped:
        return Finding("queue", "ok", f"{held + measured.in_flight} messages and more")
    found = f"{held} messages, and {measured.in_flight} on the way"
    raised = f"set {preset.queue_setting} to 1000"
    if held < SMALLEST_QUEUE:
        return Finding("queue", "failure", found, f"{raised}: what comes on top is lost although it was acknowledged")
    assumed = address.preset.max_queued_messages
    if address.max_queued_messages is not None:
        assumed = address.max_queued_messages
    if assumed is None or assumed == 0 or assumed > held:
        advice = f"{raised}, or tell the fleet: max_queued_messages = {held}; else chunks are lost and sent again"
        return Finding("queue", "warning", found, advice)
    if held < GOOD_QUEUE:
        return Finding("queue", "warning", found, f"works, in small slices; for speed {raised}")
    return Finding("queue", "ok", found)


def _answer(measured: BrokerMeasurements) -> Finding:
    if measured.answer_seconds is None:
        advice = (
            "a device in a process of its own is not heard: see the broker's log for what it says of its connection"
        )
        return Finding("two processes", "failure", "no answer", advice)
    return Finding("two processes", "ok", f"answer after {1000 * measured.answer_seconds:.1f} ms")


def _round_trip(measured: BrokerMeasurements) -> Finding:
    seconds = measured.round_trip_seconds
    if seconds is None:
        return Finding("round trip", "warning", "not measured", "messages do not arrive within two seconds")
    found = f"{1000 * seconds:.1f} ms"
    if seconds > SLOW_ROUND_TRIP:
        return Finding("round trip", "warning", found, "each round has some journeys; a nearer broker shortens them")
    return Finding("round trip", "ok", found)


def _throughput(measured: BrokerMeasurements) -> Finding:
    rate = measured.bytes_per_second
    if not rate:
        return Finding("throughput", "warning", "not measured", "chunks do not arrive within two seconds")
    found = f"{rate / 1e6:.1f} MB/s"
    if rate < SLOW_BYTES_PER_SECOND:
        advice = "large models take long; consider a nearer broker, shallower depths or compression"
        return Finding("throughput", "warning", found, advice)
    return Finding("throughput", "ok", found)
