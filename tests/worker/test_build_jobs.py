"""The jobs before the first round, in this process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import DataError, ModelError
from fedlp_edge.worker.build_jobs import build, measure
from fedlp_edge.worker.jobs import Build, Measure, WorkerOptions
from fedlp_edge.worker.resources import WorkerResources
from tests.two_layers import NAME, PERSONAL, SETTINGS, VALUES, write_samples


@pytest.fixture
def resources() -> WorkerResources:
    return WorkerResources(WorkerOptions(device="cpu", allow_models=(NAME,)))


def test_global_values_are_written(tmp_path: Path, resources: WorkerResources) -> None:
    path = tmp_path / "state.safetensors"
    built = build(Build(model=SETTINGS, state_path=str(path)), resources)
    assert {name: values.tolist() for name, values in load_file(path).items()} == VALUES
    assert (built.blueprint.full_depth, built.samples, built.data, built.start_weights) == (2, 0, None, None)
    build(Build(model=PERSONAL, state_path=str(path)), resources)
    assert sorted(load_file(path)) == ["H2.weight", "L1.weight", "L2.weight"]  # other heads stay on the devices


def test_samples_are_tried_and_described(tmp_path: Path, resources: WorkerResources) -> None:
    data = write_samples(tmp_path / "samples.npz", (1.0, -2.0, 3.0))
    built = build(Build(model=SETTINGS, data=data, steps=True), resources)
    assert built.samples == 3
    assert built.data is not None
    assert (built.data.sample_shape, built.data.highest) == ((1,), 1)
    assert built.blueprint.costs[1].forward_macs == 2 + 4 + 4  # two layers and a head
    wide = ModelSettings(name="mlp", input=(3,), classes=2)
    with pytest.raises(DataError, match="the samples have shape 1 but the model takes 3"):
        build(Build(model=wide, data=data), resources)


def test_model_that_is_not_allowed_is_not_run() -> None:
    with pytest.raises(ModelError, match=f"start it with --allow-model {NAME} if you trust it"):
        build(Build(model=SETTINGS), WorkerResources(WorkerOptions(device="cpu")))


def test_device_says_what_it_holds_and_how_fast_it_is(tmp_path: Path, resources: WorkerResources) -> None:
    data = write_samples(tmp_path / "samples.npz", (1.0, -2.0, 3.0))
    measured = measure(Measure(data=data, seconds=0.0), resources)
    assert (measured.samples, measured.processor, measured.cuda_name) == (3, "cpu", None)
    assert measured.training_macs_per_second > 0
    assert measured.data is not None
    assert measured.data.sample_shape == (1,)
    assert measure(Measure(seconds=0.0), resources).samples == 0


def test_changed_samples_are_read_again_when_it_is_asked_for(tmp_path: Path, resources: WorkerResources) -> None:
    path = tmp_path / "samples.npz"
    data = write_samples(path, (1.0, -2.0))
    assert measure(Measure(data=data, seconds=0.0), resources).samples == 2
    write_samples(path, (1.0, -2.0, 3.0, 4.0))
    assert measure(Measure(data=data, seconds=0.0), resources).samples == 2
    assert measure(Measure(data=data, seconds=0.0, reload=True), resources).samples == 4


def test_what_is_warned_of_while_a_model_is_built_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "counting.py").write_text(
        "from torch import nn\n"
        "class Counts(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.one, self.two, self.calls = nn.Linear(2, 3), nn.Linear(3, 2), 0\n"
        "    def forward(self, x):\n"
        "        self.calls += 1\n"
        "        return self.two(self.one(x).relu())\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    model = ModelSettings(name="counting:Counts", input=(2,), classes=2)
    allowed = WorkerResources(WorkerOptions(device="cpu", allow_models=(model.name,)))
    [line] = build(Build(model=model), allowed).warnings
    assert 'the forward of Counts changes "calls" as it runs' in line
