"""The bytes of models and updates are the same in a real fleet and in a simulation of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec
import pytest

from coordinator.config import ExportSettings, FleetConfig
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.core.settings import (
    BroadcastEncoding,
    Encoding,
    ModelSettings,
    SchemeSettings,
    ServerSettings,
    TrainingSettings,
    UpdateSettings,
)
from fedlp_edge.reporting.summary import Summary
from fedlp_edge.simulation import Experiment, simulate
from fedlp_edge.simulation.experiment import FleetSettings, SimulatedData
from fedlp_edge.worker.job_runner import JobRunner
from fedlp_edge.worker.jobs import AnyJob, AnyResult, Calibrate, Failed, WorkerOptions
from tests.fleets.standin import StandIn
from tests.fleets.virtual import VirtualFleet
from tests.simulation.in_process import InProcessEngine

DEVICES, ROUNDS = 3, 3

SEED = 11
"""Draws the first two devices for the first round, which opens as soon as two are there."""
MODEL = ModelSettings(name="mlp", input=(1, 8, 8), classes=10, freeze=("L2",))
TRAINING = TrainingSettings(batch_size=20, compute="float32")


@cache
def runner() -> JobRunner:
    """One for all workers of this process; it keeps nothing that a job's answer depends on."""
    return JobRunner(WorkerOptions(device="cpu"))


class InProcess(StandIn):
    """A worker that really trains, in this process."""

    def _do(self, job: AnyJob) -> AnyResult:
        if isinstance(job, Calibrate):
            return Failed(kind="worker", reason="not in a test")
        return runner().run(job)


def fleet_of(directory: Path, scheme: SchemeSettings, update: UpdateSettings) -> VirtualFleet:
    """Three devices, of which two work for a round, so that each sits one out; a layer of the model is frozen."""
    names = ["coordinator", *(f"dev-{number}" for number in range(DEVICES))]
    share = "digits#share={}/{}&partition=iid&seed=1&limit=60"
    fleet = VirtualFleet(
        directory,
        devices=DEVICES,
        worker=dict.fromkeys(names, InProcess),
        data={f"dev-{number}": share.format(number, DEVICES) for number in range(DEVICES)},
    )
    fleet.config = FleetConfig(
        fleet="virtual",
        seed=SEED,
        model=MODEL,
        data=msgspec.structs.replace(fleet.config.data, evaluate="digits"),
        training=TRAINING,
        scheme=scheme,
        update=update,
        server=ServerSettings(optimizer="sgd"),
        rounds=RoundSettings(count=ROUNDS, devices_per_round=2, min_devices=2),
        export=ExportSettings(depths="none"),
    )
    fleet.start_all()
    return fleet


def simulated(directory: Path, scheme: SchemeSettings, update: UpdateSettings) -> Summary:
    run = Experiment(
        seed=SEED,
        model=MODEL,
        data=SimulatedData(train="digits", evaluate="digits", partition="iid", seed=1, limit=60),
        training=TRAINING,
        scheme=scheme,
        update=update,
        server=ServerSettings(optimizer="sgd"),
        rounds=RoundSettings(count=ROUNDS, devices_per_round=2, min_devices=2),
        fleet=FleetSettings(devices=DEVICES),
    )
    return simulate(run, directory, engine=InProcessEngine())


def payloads(summary: Summary) -> list[dict[str, tuple[int, int]]]:
    """Bytes down and up by device, of each round."""
    return [
        {device.id: (device.payload_down, device.payload_up) for device in entry.devices} for entry in summary.rounds
    ]


@pytest.mark.parametrize(("encoding", "broadcast"), [("none", "none"), ("int8", "int8"), ("int2+zstd", "int4+zstd")])
def test_simulation_and_fleet_count_the_same_bytes(
    tmp_path: Path, encoding: Encoding, broadcast: BroadcastEncoding
) -> None:
    scheme, update = SchemeSettings(depth=2, lpr=0.5), UpdateSettings(encoding=encoding, broadcast=broadcast)
    virtual = simulated(tmp_path / "simulated", scheme, update)
    real = fleet_of(tmp_path / "real", scheme, update).finish()

    assert real.final is not None
    assert virtual.final is not None
    assert real.final.model_digest == virtual.final.model_digest
    assert payloads(real) == payloads(virtual)
    for entry in real.rounds:
        # Headers of chunks come on top, and versions that a device heard of in a round without a task.
        assert all(device.bytes_down > device.payload_down for device in entry.devices if device.payload_down)
        assert all(device.bytes_up > device.payload_up for device in entry.devices if device.payload_up)
    # In some round a layer was drawn by nobody, and it is not in the next download.
    assert any(len(entry.published or {}) < 3 for entry in virtual.rounds[:-1])
    assert len({device.id for device in virtual.rounds[0].devices}) < DEVICES


def test_residuals_of_updates_are_the_same_in_simulation_and_fleet(tmp_path: Path) -> None:
    scheme, update = SchemeSettings(depth=2, lpr=0.5), UpdateSettings(encoding="int2+zstd", error_feedback=True)
    virtual = simulated(tmp_path / "simulated", scheme, update)
    real = fleet_of(tmp_path / "real", scheme, update).finish()
    assert real.final is not None
    assert virtual.final is not None
    assert real.final.model_digest == virtual.final.model_digest
    assert payloads(real) == payloads(virtual)
