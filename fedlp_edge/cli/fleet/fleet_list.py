"""This module implements ``fedlp fleet``, which prints who is at a broker."""

from __future__ import annotations

from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedlp_edge.cli.broker_file import checked_name, read_broker_file
from fedlp_edge.cli.fleet.roster import DeviceEntry, FleetEntry, read_fleets
from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.reporting.console import open_console, print_unwrapped
from fedlp_edge.reporting.formatting import format_bytes, format_metric, metric_label
from fedlp_edge.system.printable import counted
from fedlp_edge.wire.messages import PROTOCOL

EXIT_NOBODY = 1
_STYLES = {"there": "green", "away": "red", "ended": "dim", "unknown": "yellow"}


def run_fleet(url: str | None, config: Path | None, fleet: str | None, *, as_json: bool) -> int:
    """Prints the coordinators and devices that a broker knows of.

    Returns:
        0 if there is any, gone or not; 1 if there is none.

    Raises:
        ConfigError: A wrong URL, file or name.
        BrokerError: The broker cannot be reached, or does not let the login subscribe.
    """
    known = read_broker_file(config, url, "fedlp fleet")
    name = checked_name("fleet", fleet) if fleet else known.fleet
    address = known.address(url)
    with open_console(stderr=as_json).status(f"asking {address.url}"):
        found = read_fleets(address, name)
    if as_json:
        for entry in found:
            print(msgspec.json.encode(entry).decode())
        return 0 if found else EXIT_NOBODY
    console = open_console()
    for entry in found:
        _print(entry, console)
    if not found:
        whose, others = (f"fleet {name}", "; without --fleet all fleets are listed") if name else ("any fleet", "")
        words = (
            f"No agent or coordinator of {whose} has been at {address.url}, or this login may not read what they say"
        )
        console.print(f"{words} (docs/security.md has the access rules){others}.")
    return 0 if found else EXIT_NOBODY


def _print(entry: FleetEntry, console: Console) -> None:
    there = sum(device.state == "there" for device in entry.devices)
    title = Text(entry.fleet, style="bold cyan")
    title.append(f"  {there} of {counted(len(entry.devices), 'device')} there", style="not bold default")
    console.print(title)
    for line in _run_lines(entry):
        console.print(line)
    if entry.devices:
        print_unwrapped(console, _table(entry.devices))
    console.print()


def _run_lines(entry: FleetEntry) -> list[Text]:
    lines = []
    boss = entry.coordinator
    if boss is None:
        lines.append(Text("no coordinator has been there"))
    elif boss.online:
        lines.append(Text(f"coordinator there, run {boss.run}, {boss.state}"))
        if boss.protocol != PROTOCOL:
            lines.append(Text(_other_protocol(boss.protocol), style="red"))
    else:
        lines.append(Text(f"coordinator gone, last with run {boss.run}", style="yellow"))
    news = entry.news
    if news is not None:
        value = "" if news.value is None else f", {metric_label(news.metric)} {format_metric(news.metric, news.value)}"
        note = f": {news.note}" if news.note else ""
        lines.append(Text(f"round {news.round} of {news.rounds}{value}{note}"))
        if news.trouble:
            lines.append(Text(news.trouble, style="red"))
    return lines


def _table(devices: tuple[DeviceEntry, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("device", "state", "machine", "for training", "speed", "link", "samples", "notes"):
        right = name in ("for training", "speed", "link", "samples")
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for device in devices:
        state = Text(device.state, style=_STYLES[device.state])
        table.add_row(Text(device.id), state, *map(Text, _facts(device.facts)), Text(", ".join(_notes(device))))
    return table


def _facts(facts: DeviceFacts | None) -> tuple[str, str, str, str, str]:
    if facts is None:
        return "-", "-", "-", "-", "-"
    cores = f"{facts.cores:g} {'core' if facts.cores == 1 else 'cores'}"
    gpu = facts.cuda_name if facts.processor == "cuda" else ""
    link = facts.link_bytes_per_second
    return (
        ", ".join(word for word in (facts.hostname, facts.architecture, gpu or cores) if word),
        format_bytes(facts.training_memory),
        f"{facts.training_macs_per_second / 1e9:.1f} GMAC/s",
        "-" if link is None else _megabits(link * 8 / 1e6),
        f"{facts.samples:,}",
    )


def _megabits(rate: float) -> str:
    return f"{rate:,.0f} Mbit/s" if rate >= 99.5 else f"{rate:.2g} Mbit/s"


def _other_protocol(protocol: int) -> str:
    return f"speaks protocol {protocol}, this is {PROTOCOL}: update the older side"


def _notes(device: DeviceEntry) -> list[str]:
    """What an owner would want to know of a device, beside its size."""
    notes = []
    if device.state == "unknown":
        notes.append("its message is of another version: update the older side")
    elif device.protocol != PROTOCOL and device.state == "there":
        notes.append(_other_protocol(device.protocol))
    facts = device.facts
    if facts is not None:
        if facts.profile != "host":
            notes.append(f"profile {facts.profile}")
        if facts.throttled:
            notes.append("throttled")
        if facts.temperature_celsius is not None:
            notes.append(f"{facts.temperature_celsius:.0f} °C")
        if facts.battery_percent is not None:
            notes.append(f"battery {facts.battery_percent:.0f} %")
        if facts.metered:
            notes.append("metered link")
    if device.serving:
        notes.append(f"answers with {device.serving}")
    return notes
