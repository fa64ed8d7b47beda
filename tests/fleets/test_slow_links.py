"""Fleets over slow links that lose nothing, in virtual time: nothing is sent twice, and nobody is lost."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from fedlp_edge.core.settings import Encoding, UpdateSettings
from fedlp_edge.reporting.events import AnyEvent, RoundStarted
from fedlp_edge.reporting.summary import Summary
from fedlp_edge.transport.base import BrokerLimits
from fedlp_edge.transport.in_memory import MemoryHub
from tests.fleets.standin import blueprint
from tests.fleets.virtual import VirtualFleet
from tests.fleets.wire import Wire

pytestmark = pytest.mark.system

LIMITS = BrokerLimits("memory", max_packet_bytes=None, receive_maximum=100)
WIDTH = 12_000
ROUNDS = 2
KBIT = 125.0
"""Bytes per second."""

TRAINING_SECONDS = 1.0
JOINING_SECONDS = 5.0
"""Reports, the measurement of the link, the assignment."""

MODEL_BYTES = sum(unit.nbytes for unit in blueprint(width=WIDTH).exchanged_by(2))
"""144,000, which each device fetches and sends in each round."""


def fleet(
    directory: Path,
    *wires: Wire | None,
    deadline: float = 3000.0,
    rounds: int = ROUNDS,
    depth: Literal["auto", "full"] = "full",
    encoding: Encoding | Literal["auto"] = "none",
) -> VirtualFleet:
    """One device behind each of these wires; None is beside the broker."""
    made = VirtualFleet(directory, devices=len(wires), rounds=rounds, width=WIDTH, deadline_seconds=deadline)
    made.config = msgspec.structs.replace(
        made.config,
        scheme=msgspec.structs.replace(made.config.scheme, depth=depth),
        update=UpdateSettings(encoding=encoding),
        export=msgspec.structs.replace(made.config.export, depths="none"),
    )
    made.world.hub = MemoryHub(limits=LIMITS)
    made.world.wires = {
        name: dataclasses.replace(wire, carried={}, sent={})
        for name, wire in zip(made.names, wires, strict=True)
        if wire is not None
    }
    return made


def played(story: VirtualFleet) -> Summary:
    """To its end, at which everybody has contributed in every round and nothing of the model went twice."""
    story.start_all()
    summary = story.finish()
    assert [device.status for record in summary.rounds for device in record.devices] == ["contributed"] * (
        ROUNDS * len(story.names)
    )
    for name in story.world.wires.keys() & set(story.names):
        wire = story.world.wires[name]
        assert wire.bytes_down("repeat") == 0
        assert wire.bytes_down("model") < 1.03 * ROUNDS * MODEL_BYTES
        assert wire.bytes_up("upload") < 1.03 * ROUNDS * MODEL_BYTES
    return summary


def ideal(up: float, down: float) -> float:
    """Seconds of a run in which nothing but the model crosses the link."""
    return ROUNDS * (MODEL_BYTES / up + MODEL_BYTES / down + TRAINING_SECONDS)


@pytest.mark.parametrize("kbit", [16, 40, 64, 256, 1000])
def test_run_takes_little_longer_than_its_bytes_over_the_rate(tmp_path: Path, kbit: int) -> None:
    story = fleet(tmp_path, Wire(kbit * KBIT, kbit * KBIT))

    played(story)

    assert story.world.now < 1.1 * ideal(kbit * KBIT, kbit * KBIT) + JOINING_SECONDS


@pytest.mark.parametrize(("up", "down"), [(16, 1000), (1000, 16)])
def test_asymmetric_link_takes_what_its_directions_take(tmp_path: Path, up: int, down: int) -> None:
    story = fleet(tmp_path, Wire(up * KBIT, down * KBIT))

    played(story)

    assert story.world.now < 1.1 * ideal(up * KBIT, down * KBIT) + JOINING_SECONDS


def test_link_over_a_satellite_is_not_asked_twice(tmp_path: Path) -> None:
    story = fleet(tmp_path, Wire(1000 * KBIT, 1000 * KBIT, latency=0.3))

    played(story)

    journeys = 10 * 0.6
    assert story.world.now < 1.1 * ideal(1000 * KBIT, 1000 * KBIT) + ROUNDS * journeys + JOINING_SECONDS


@pytest.mark.parametrize("start", [2.0, 10.0, 22.0, 35.0, 60.0])
def test_link_that_pauses_loses_nothing_and_gets_nothing_again(tmp_path: Path, start: float) -> None:
    story = fleet(tmp_path, Wire(64 * KBIT, 64 * KBIT, pauses=((start, start + 20.0),)))

    played(story)

    assert story.world.now < 1.1 * ideal(64 * KBIT, 64 * KBIT) + 20.0 + 2 * JOINING_SECONDS


def test_slow_device_and_fast_ones_share_a_broadcast(tmp_path: Path) -> None:
    slow, fast = Wire(16 * KBIT, 16 * KBIT), Wire(1e6, 1e6)
    story = fleet(tmp_path, slow, fast, None)

    played(story)

    assert story.world.now < 1.1 * ideal(16 * KBIT, 16 * KBIT) + JOINING_SECONDS


@pytest.mark.parametrize(("kbit", "packet", "devices"), [(256, None, 4), (256, 17_000, 8), (16, 4_000, 4)])
def test_slow_link_of_the_coordinator_carries_everything_once(
    tmp_path: Path, kbit: int, packet: int | None, devices: int
) -> None:
    """All updates go through one link, at the same time; whatever waits there is not lost."""
    story = fleet(tmp_path, *[None] * devices)
    story.world.hub = MemoryHub(limits=dataclasses.replace(LIMITS, max_packet_bytes=packet))
    wire = story.world.wires["coordinator"] = Wire(kbit * KBIT, kbit * KBIT)

    played(story)

    assert wire.bytes_down("upload") < 1.03 * ROUNDS * devices * MODEL_BYTES
    seconds = ROUNDS * ((1 + devices) * MODEL_BYTES / wire.down + TRAINING_SECONDS)
    assert story.world.now < 1.15 * seconds + JOINING_SECONDS


def test_device_that_is_lost_by_its_link_is_planned_anew(tmp_path: Path) -> None:
    """Its link is fast while it is measured; afterwards no more than depth 1 can be done within a round for sure."""
    story = fleet(
        tmp_path, None, Wire(1000 * KBIT, 1000 * KBIT), deadline=100.0, rounds=7, depth="auto", encoding="auto"
    )
    wire = story.world.wires["dev-1"]

    def slow_down(event: AnyEvent) -> None:
        if isinstance(event, RoundStarted) and event.round == 1:
            wire.up = wire.down = 18 * KBIT

    story.on_event = slow_down
    story.start_all()
    summary = story.finish()

    entries = [next(d for d in r.devices if d.id == "dev-1") for r in summary.rounds]
    course = [(entry.status, entry.depth) for entry in entries]
    assert course[0] == ("lost", 2)
    assert course[-2:] == [("contributed", 1)] * 2
    # Nothing that its link carried is missing in the books; dev-0 measures with three times 64 bytes and once 4 KiB.
    assert sum(entry.bytes_down for entry in entries) == wire.bytes_down("model") + wire.bytes_down("repeat")
    assert sum(r.traffic["echo"].bytes for r in summary.rounds) == wire.bytes_up("echo") + 3 * 64 + 4096


def test_device_whose_link_gets_better_is_planned_with_it(tmp_path: Path) -> None:
    """Its link carries 16 kbit/s while it is measured, which allows depth 1; later it is sixty times as fast."""
    story = fleet(tmp_path, None, Wire(16 * KBIT, 16 * KBIT), deadline=100.0, rounds=10, depth="auto", encoding="auto")
    wire = story.world.wires["dev-1"]

    def speed_up(event: AnyEvent) -> None:
        if isinstance(event, RoundStarted) and event.round == 2:
            wire.up = wire.down = 1000 * KBIT

    story.on_event = speed_up
    story.start_all()
    summary = story.finish()

    course = [next(((d.status, d.depth) for d in r.devices if d.id == "dev-1"), None) for r in summary.rounds]
    assert course[:2] == [("contributed", 1)] * 2
    assert course[-1] == ("contributed", 2)
    depths = [entry[1] for entry in course if entry]  # it joins no round while it gets another depth
    assert depths == sorted(depths)
