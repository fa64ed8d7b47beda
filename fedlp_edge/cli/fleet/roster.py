"""This module collects what a broker keeps of fleets: who announced themselves, and how the run of each stands.

Coordinators and devices leave retained messages, and a last will that replaces them. So one subscription tells of all,
also where no run goes on and no device is there.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import msgspec

from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.errors import BrokerError, PeerError
from fedlp_edge.system.printable import printable, unprintable_fields
from fedlp_edge.transport.address import BrokerAddress
from fedlp_edge.transport.diagnostics.client import DiagnosticClient, ReceivedMessage
from fedlp_edge.transport.diagnostics.measurements import announced_limits, client_name
from fedlp_edge.wire.messages import Announcement, Decoder, Status
from fedlp_edge.wire.topics import fleet_topic

QUIET_SECONDS = 1.5
"""Seconds without a message after which the broker has sent all that it keeps."""

MOST_SECONDS = 20.0
"""Seconds after which the list ends in any case: what devices say meanwhile arrives as well."""

_MOST_BYTES = 1 << 20

_decode_status = Decoder[Status](Status, _MOST_BYTES)
_decode_announcement = Decoder[Announcement](Announcement, _MOST_BYTES)


class DeviceEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A device that a broker knows of.

    Attributes:
        id: Id of the device.
        state: ``there``; ``away``, whose connection was lost; ``ended``, whose agent was ended; or ``unknown``, whose
            message only another version can read.
        version: Version of its agent; empty if it did not say.
        protocol: Version of its protocol; 0 if it is unknown.
        facts: What it has last said of its machine; None once it is gone.
        serving: File of the model that answers on it; empty if none does.
    """

    id: str
    state: str
    version: str = ""
    protocol: int = 0
    facts: DeviceFacts | None = None
    serving: str = ""


class RunNews(msgspec.Struct, frozen=True, kw_only=True):
    """What the state topic of a run says, see ``[monitoring]``; all of it is missing in other versions' messages.

    Attributes:
        phase: Phase of the run.
        round: Number of the running or latest round.
        rounds: Number of rounds that are wanted.
        metric: Name of the metric of ``value``.
        value: Latest value; None if there is none.
        note: What goes on.
        trouble: What is wrong; empty if nothing is.
    """

    phase: str = ""
    round: int = 0
    rounds: int = 0
    metric: str = ""
    value: float | None = None
    note: str = ""
    trouble: str = ""

    def __post_init__(self) -> None:
        for name, words in unprintable_fields(self):
            msgspec.structs.force_setattr(self, name, words)


class FleetEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A fleet that a broker knows of.

    Attributes:
        fleet: Name of the fleet.
        coordinator: Latest announcement of its coordinator, or of a roll-out; None if there is none.
        news: State of its run; None if it publishes none.
        devices: Devices in the order of their ids.
    """

    fleet: str
    coordinator: Announcement | None = None
    news: RunNews | None = None
    devices: tuple[DeviceEntry, ...] = ()


def read_fleets(address: BrokerAddress, fleet: str | None) -> list[FleetEntry]:
    """Asks a broker for what it keeps.

    Args:
        address: Broker and login.
        fleet: Name of the fleet; None for all that the login may read.

    Raises:
        BrokerError: The broker cannot be reached, or does not let the login subscribe.
    """
    limits = announced_limits(address)
    root = fleet_topic(fleet)
    messages = []
    with DiagnosticClient(address, limits.protocol, client_name()) as client:
        for topic in (f"{root}/coordinator", f"{root}/device/+"):
            if refusal := client.subscribe(topic):
                advice = "" if fleet else "; name the fleet with --fleet, as access rules may do"
                raise BrokerError(f"{address.url} refuses to let this login read {topic}: {refusal}{advice}")
        client.subscribe(f"{root}/state")  # which access rules of before leave out
        until = time.monotonic() + MOST_SECONDS
        while time.monotonic() < until and (message := client.next(QUIET_SECONDS)) is not None:
            messages.append(message)
    return fleets_of(messages)


def fleets_of(messages: Iterable[ReceivedMessage]) -> list[FleetEntry]:
    """Returns the fleets that messages tell of, in the order of their names; the latest message of a topic counts."""
    latest = {message.topic: message.payload for message in messages}
    fleets: dict[str, FleetEntry] = {}
    for topic, payload in sorted(latest.items()):
        _, name, branch, *leaf = (level.replace("~", ".") for level in topic.split("/"))
        entry = fleets.get(name, FleetEntry(fleet=printable(name)))
        if branch == "coordinator":
            entry = msgspec.structs.replace(entry, coordinator=_announcement(payload))
        elif branch == "state":
            entry = msgspec.structs.replace(entry, news=_news(payload))
        elif payload:  # an empty message removes what was kept
            entry = msgspec.structs.replace(entry, devices=(*entry.devices, _device(leaf[0], payload)))
        fleets[name] = entry
    return [entry for _, entry in sorted(fleets.items()) if entry.devices or entry.coordinator or entry.news]


def _device(id: str, payload: bytes) -> DeviceEntry:
    try:
        status = _decode_status(payload)
    except PeerError:
        return DeviceEntry(id=printable(id), state="unknown")
    gone = "ended" if status.ended else "away"
    return DeviceEntry(
        id=printable(id),
        state="there" if status.online else gone,
        version=status.version,
        protocol=status.protocol,
        facts=status.facts,
        serving=printable(status.serving.file) if status.serving else "",
    )


def _announcement(payload: bytes) -> Announcement | None:
    try:
        return _decode_announcement(payload)
    except PeerError:  # a claim, which is not kept, or a message of another version
        return None


def _news(payload: bytes) -> RunNews | None:
    try:
        return msgspec.json.decode(payload, type=RunNews)
    except (msgspec.DecodeError, RecursionError):
        return None
