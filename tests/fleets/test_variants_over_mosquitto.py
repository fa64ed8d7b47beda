"""Variants of the scheme and asynchronous rounds, shown on processes over a real Mosquitto."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from fedlp_edge.reporting.events import AnyEvent, RoundFinished, UpdateAccepted
from fedlp_edge.storage.checkpoints import Checkpoints
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from tests.fleets.fleet import NO_EXPORT, Fleet

pytestmark = pytest.mark.system

VARIANTS = """
[scheme]
depth = "full"
lpr_of = { L2 = 0.0 }
recycle = 1
recycle_decay = 0.5

[server]
ema = 0.5

[export]
depths = "full"
"""

ASYNCHRONOUS = f"""
mode = "buffered"
buffer_size = 2
{NO_EXPORT}"""


def test_rates_recycling_and_average_reach_every_device(tmp_path: Path, mosquitto: MosquittoBroker) -> None:
    with Fleet(tmp_path, mosquitto.url, "variants", devices=2, rounds=4, more=VARIANTS) as fleet:
        fleet.start_all()
        summary = fleet.finish()
    everybody = {f"dev-{number}" for number in range(fleet.devices)}
    full = max(device.depth for device in summary.rounds[0].devices)
    exchanged = {f"L{depth}" for depth in range(1, full + 1)} | {f"H{full}"}
    checkpoints = Checkpoints(fleet.run / "checkpoints")
    weights = [load_file(checkpoints.weights_path(round)) for round in range(5)]
    for entry in summary.rounds:
        silent = {unit for unit in exchanged if set(entry.coverage[unit]) != everybody}
        assert "L2" in silent
        assert all(not entry.coverage[unit] for unit in silent)
        # One unit is recycled from the second round on: it changes, though nobody sent it.
        assert len(silent) == (1 if entry.round == 1 else 2)
    changed = [sum(not np.array_equal(old[name], new[name]) for name in old) for old, new in pairwise(weights)]
    assert len(set(changed)) == 1
    assert summary.final is not None
    assert max(summary.final.accuracy.values()) > 0.3
    assert checkpoints.evaluated_path(4).name == "round-00004.ema.safetensors"
    assert summary.onnx


def rounds_finished(seen: list[AnyEvent]) -> int:
    return sum(isinstance(event, RoundFinished) for event in seen)


def test_asynchronous_run_goes_on_without_a_slow_device_and_counts_it_later(
    tmp_path: Path, mosquitto: MosquittoBroker
) -> None:
    with Fleet(tmp_path, mosquitto.url, "asynchronous", rounds=12, more=ASYNCHRONOUS) as fleet:
        fleet.start_all()
        fleet.wait_for(lambda seen: rounds_finished(seen) >= 1)
        slow = fleet.pause_worker("dev-2")
        done = rounds_finished(fleet.wait_for(lambda seen: True))
        fleet.wait_for(lambda seen: rounds_finished(seen) >= done + 4)
        # With another one held up, no version can be made without the slow one.
        other = fleet.pause_worker("dev-0")
        before = len(fleet.wait_for(lambda seen: True))
        slow.resume()
        fleet.wait_for(lambda seen: any(isinstance(e, UpdateAccepted) and e.device == "dev-2" for e in seen[before:]))
        other.resume()
        summary = fleet.finish()
    assert [entry.round for entry in summary.rounds] == list(range(1, 13))
    parts = [(device, entry.round) for entry in summary.rounds for device in entry.devices]
    assert {device.status for device, _ in parts} == {"contributed"}
    assert max(device.staleness for device, _ in parts if device.id == "dev-2") >= 2
    tasks = [(device.id, round - device.staleness) for device, round in parts]
    assert len(set(tasks)) == len(tasks)
    assert summary.final is not None
    assert max(summary.final.accuracy.values()) > 0.5
