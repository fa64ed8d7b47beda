"""This module puts the state of a run into one JSON object, for programs that know nothing of the protocol."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

import msgspec

from fedlp_edge.reporting.formatting import main_metric
from fedlp_edge.reporting.progress import MAX_NAMED_DEVICES, Phase, RunProgress
from fedlp_edge.system.printable import printable

_MOST_CHARACTERS = 500  # of a line for people; the reasons of many devices may be one


class DeviceCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many devices there are.

    Attributes:
        there: Devices that are at the broker.
        training: Those of them that train now.
        away: Devices that have been there.
        out: Devices that cannot take part or are set aside.
    """

    there: int
    training: int
    away: int
    out: int


class RunState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a run.

    Attributes:
        run: Name of the run.
        fleet: Name of the fleet.
        model: Name of the model.
        phase: ``starting``, ``waiting`` (for devices), ``round``, ``exporting``, ``finished`` or ``stopped``.
        round: Number of the running or latest round; 0 before the first.
        rounds: Number of rounds that are wanted.
        committed: Number of rounds that are done.
        metric: Name of the metric that ``value`` is of; empty if nothing was measured yet.
        value: Latest value at the deepest depth that a device trains, or was measured; None if there is none.
        values: Latest value by depth.
        measured_by: Who has measured it: the coordinator on ``central`` test data, or the ``devices`` on samples that
            they hold out.
        devices: How many devices there are.
        out: Why devices cannot take part or are set aside, by name; of many, the first ones.
        note: What goes on, in one line for people.
        trouble: What is wrong, in one line for people; empty if nothing is.
        bytes_down: Bytes from the coordinator to the devices in all rounds so far.
        bytes_up: Bytes from the devices to the coordinator in all rounds so far.
        started: When this run was started, or went on, in ISO 8601.
        updated: When something has happened last, in ISO 8601.
    """

    run: str
    fleet: str
    model: str
    phase: Phase
    round: int
    rounds: int
    committed: int
    metric: str
    value: float | None
    values: dict[str, float]
    measured_by: Literal["central", "devices", ""]
    devices: DeviceCounts
    out: dict[str, str]
    note: str
    trouble: str
    bytes_down: int
    bytes_up: int
    started: str
    updated: str


def run_state(progress: RunProgress) -> RunState:
    """Returns the state of a run as its events have made it."""
    states = [device.state for device in progress.devices.values()]
    metric, values = progress.metric, {depth: found[-1] for depth, found in progress.values.items()}
    measured_by: Literal["central", "devices", ""] = "central" if values else ""
    if not values and progress.on_devices:
        latest = {depth: scores[-1].mean for depth, scores in progress.on_devices.items()}
        metric = main_metric(latest[max(latest)], progress.metric)
        values = {depth: mean[metric] for depth, mean in latest.items() if metric in mean}
        measured_by = "devices" if values else ""
    return RunState(
        run=progress.run,
        fleet=progress.fleet,
        model=progress.model,
        phase=progress.phase,
        round=progress.round,
        rounds=progress.rounds,
        committed=progress.finished_rounds,
        metric=metric if values else "",
        value=_of_the_deepest(values, progress),
        values={str(depth): value for depth, value in sorted(values.items())},
        measured_by=measured_by,
        devices=DeviceCounts(
            there=sum(state not in ("away", "unfit", "set aside") for state in states),
            training=0 if progress.phase in ("finished", "stopped") else states.count("training"),
            away=states.count("away"),
            out=len(progress.out),
        ),
        out={
            device.id: printable(f"{device.state}: {device.reason}", _MOST_CHARACTERS)
            for device in progress.out[:MAX_NAMED_DEVICES]
        },
        note=printable(progress.note, _MOST_CHARACTERS),
        trouble=printable(progress.trouble, _MOST_CHARACTERS),
        bytes_down=progress.bytes_down,
        bytes_up=progress.bytes_up,
        started=_iso(progress.started),
        updated=_iso(progress.latest),
    )


def _of_the_deepest(values: Mapping[int, float], progress: RunProgress) -> float | None:
    """Returns the value at the deepest depth of a device; others are exits that nobody trains."""
    trained = max((device.depth for device in progress.devices.values()), default=0)
    depths = [depth for depth in values if depth <= trained] or list(values)
    return values[max(depths)] if depths else None


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds else ""
