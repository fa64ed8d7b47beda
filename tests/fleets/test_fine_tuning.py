"""Frozen layers and start weights in a fleet in memory, whose workers build and train real models."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from coordinator.config import DataSettings
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.settings import ModelSettings, TrainingSettings
from fedlp_edge.errors import FreezeError, SettingError, StartWeightsError, WorkerError
from fedlp_edge.learning.zoo.build import build_model
from fedlp_edge.reporting.events import RoundFinished, RunStarted, UpdateAccepted
from fedlp_edge.storage.checkpoints import Checkpoints
from fedlp_edge.wire.chunks import HEADER_BYTES, chunk_bytes_for, chunk_count
from fedlp_edge.wire.tensors import pack
from fedlp_edge.worker.job_runner import JobRunner
from fedlp_edge.worker.jobs import AnyJob, AnyResult, Build, DeviceMeasurement, Failed, Measure, Train, WorkerOptions
from tests.fleets.standin import StandIn
from tests.fleets.virtual import VirtualFleet
from tests.fleets.world import LIMITS

MODEL = ModelSettings(name="mlp", input=(1, 8, 8), classes=10, freeze=("hidden1", "hidden2.*"))


class RealWorker(StandIn):
    """Does jobs as a worker process does, in this process; only the benchmark is short.

    Attributes:
        jobs: that it did.
    """

    @cached_property
    def jobs(self) -> list[AnyJob]:
        return []

    def call(self, job: AnyJob, timeout: float | None = None) -> AnyResult:
        answer = self._do(job)
        if isinstance(answer, Failed):
            errors = {"freeze": FreezeError, "start-weights": StartWeightsError}
            raise errors.get(answer.kind, WorkerError)(answer.reason)
        return answer

    def _do(self, job: AnyJob) -> AnyResult:
        self.jobs.append(job)
        if isinstance(job, Measure):
            answer = self._runner.run(msgspec.structs.replace(job, seconds=0.001))
            assert isinstance(answer, DeviceMeasurement)
            return msgspec.structs.replace(answer, training_macs_per_second=1e9)
        return self._runner.run(job)

    @cached_property
    def _runner(self) -> JobRunner:
        return JobRunner(WorkerOptions(threads=0, device="cpu"))


def fleet_of(directory: Path, model: ModelSettings = MODEL, devices: int = 2, rounds: int = 2) -> VirtualFleet:
    """Devices that learn digits; odd ones are large."""
    names = ["coordinator", *(f"dev-{number}" for number in range(devices))]
    fleet = VirtualFleet(directory, devices=devices, rounds=rounds, worker=dict.fromkeys(names, RealWorker))
    fleet.config = msgspec.structs.replace(
        fleet.config,
        model=model,
        data=DataSettings(evaluate=""),
        training=TrainingSettings(batch_size=256, compute="float32"),
    )
    return fleet


def bytes_of_an_update(blueprint: Blueprint, depth: int) -> int:
    """Bytes on the wire of everything that a device of a depth trains, headers of files and chunks included."""
    shapes = [{t.name: t.shape for t in unit.tensors} for unit in blueprint.exchanged_by(depth) if unit.tensors]
    whole = sum(len(pack({n: np.zeros(shape, np.float32) for n, shape in unit.items()})) for unit in shapes)
    return whole + HEADER_BYTES * chunk_count(whole, chunk_bytes_for(LIMITS))


def test_frozen_layers_come_down_once_and_never_go_up(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path)
    fleet.start_all()
    summary = fleet.finish()
    blueprint = build_model(MODEL, seed=1).blueprint()
    assert [unit.nbytes for unit in blueprint.units[:2]] == [0, 0]

    accepted = [event for event in fleet.events if isinstance(event, UpdateAccepted)]
    depths = {device.id: device.depth for device in summary.rounds[0].devices}
    assert len(accepted) == 4
    for event in accepted:
        assert event.bytes_up == bytes_of_an_update(blueprint, depths[event.device])
    for entry in summary.rounds:
        assert [device.params_up for device in entry.devices] == [
            sum(unit.parameters for unit in blueprint.exchanged_by(device.depth)) for device in entry.devices
        ]
        assert set(entry.coverage) == {"L3", "H1", "H2", "H3"}
    # 16,640 and 32,896 numbers that nobody trains, in the first round alone.
    first, second = ({device.id: device.bytes_down for device in entry.devices} for entry in summary.rounds)
    frozen = {device: 4 * (16640 + (depth > 1) * 32896) for device, depth in depths.items()}
    assert all(first[device] > frozen[device] for device in depths)
    assert all(second[device] < first[device] - frozen[device] for device in depths)

    before, after = (Checkpoints(fleet.run / "checkpoints").load(round)[0] for round in (0, 2))
    same = {name for name, value in before.items() if np.array_equal(value, after[name])}
    untrained = {name for name in same if name[0] == "H"} - blueprint.constants
    assert {name[:2] for name in untrained} == {f"H{depth}" for depth in (1, 2, 3)} - {f"H{d}" for d in depths.values()}
    assert same - untrained == blueprint.constants


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file of the model, trained elsewhere, as somebody's training script saves it."""
    state = build_model(msgspec.structs.replace(MODEL, classes=4), seed=5).original_state_dict()
    path = tmp_path / "elsewhere.pt"
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}, "epoch": 3}, path)
    return path


def test_a_fleet_starts_from_a_file_that_devices_hear_nothing_of(tmp_path: Path, weights: Path) -> None:
    fleet = fleet_of(tmp_path, msgspec.structs.replace(MODEL, weights=str(weights)), rounds=1)
    fleet.start_all()
    summary = fleet.finish()
    report = summary.start_weights
    assert report is not None
    assert (report.source, len(report.taken), report.left_out) == (str(weights), 6, ())
    assert report.anew["head.weight"] == "[4, 64] in the file, [10, 64] in the model"
    assert next(event for event in fleet.events if isinstance(event, RunStarted)).start_weights == report.line

    start = Checkpoints(fleet.run / "checkpoints").load(0)[0]
    theirs = torch.load(weights, weights_only=True)["state_dict"]
    assert np.array_equal(start["L1.hidden1.fc.weight"], theirs["module.hidden1.fc.weight"].numpy())
    jobs = [job for worker in fleet.workers if isinstance(worker, RealWorker) for job in worker.jobs]
    assert {job.model.weights for job in jobs if isinstance(job, Build | Train)} == {""}


def test_a_fleet_takes_no_head_if_heads_are_reset(tmp_path: Path) -> None:
    state = build_model(MODEL, seed=5).original_state_dict()
    torch.save(state, tmp_path / "same.pt")
    model = msgspec.structs.replace(MODEL, weights=str(tmp_path / "same.pt"), reset_heads=True)
    fleet = fleet_of(tmp_path, model, rounds=1)
    fleet.start_all()
    report = fleet.finish().start_weights
    assert report is not None
    assert report.anew["head.weight"] == "reset_heads"
    start = Checkpoints(fleet.run / "checkpoints").load(0)[0]
    assert np.array_equal(start["L2.hidden2.fc.weight"], state["hidden2.fc.weight"].numpy())
    assert not np.array_equal(start["H3.head.weight"], state["head.weight"].numpy())


def test_a_run_that_was_killed_ends_as_the_undisturbed_one_and_needs_the_file_no_more(
    tmp_path: Path, weights: Path
) -> None:
    model = msgspec.structs.replace(MODEL, weights=str(weights))
    undisturbed = fleet_of(tmp_path / "undisturbed", model)
    undisturbed.start_all()
    expected = undisturbed.finish()
    # The last bytes of the last update of round 2 are written: the update before it has come.
    last_write = max(n for n, step in enumerate(undisturbed.steps("coordinator")) if step.startswith("pwrite"))

    fleet = fleet_of(tmp_path / "killed", model)
    fleet.on_event = lambda event: weights.unlink(missing_ok=True) if isinstance(event, RoundFinished) else None
    fleet.start_all({"coordinator": last_write})
    summary = fleet.finish()
    assert not weights.exists()
    assert any(isinstance(event, RunStarted) and event.resumed_at == 2 for event in fleet.events)
    assert summary.final == expected.final
    assert summary.start_weights == expected.start_weights


@pytest.mark.parametrize(
    ("change", "key", "reason"),
    [
        ({"freeze": ("hidden9",)}, ("model", "freeze"), "matches 'hidden9'; near: hidden"),
        ({"weights": "absent.pt"}, ("model", "weights"), "there is no file absent.pt"),
        ({"weights": __file__}, ("model", "weights"), "is no file of weights"),
    ],
)
def test_what_cannot_be_is_said_before_any_device_is_asked(
    tmp_path: Path, change: dict[str, object], key: tuple[str, str], reason: str
) -> None:
    fleet = fleet_of(tmp_path, msgspec.structs.replace(MODEL, **change), devices=1)
    fleet.start_all()
    with pytest.raises(SettingError, match=reason) as said:
        fleet.finish()
    assert said.value.key == key
