"""Models whose tensors are not all trained: running statistics of any size, masks of infinities, frozen weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.core.settings import ModelSettings, SchemeSettings, TrainingSettings
from fedlp_edge.errors import WorkerError
from fedlp_edge.reporting.summary import Summary
from fedlp_edge.simulation import Experiment, LocalEngine, simulate
from fedlp_edge.simulation.experiment import FleetSettings, SimulatedData
from fedlp_edge.storage.checkpoints import Checkpoints
from tests.field.kinds_models import LENGTH

ROUNDS = 3


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    with LocalEngine(1) as started:
        yield started


def learn(engine: LocalEngine, directory: Path, model: str, x: np.ndarray, y: np.ndarray) -> Summary:
    """Three devices learn a model of ``kinds_models`` together."""
    np.savez(directory / "data.npz", x=x, y=y)
    spec = f"npz:{directory / 'data.npz'}"
    run = Experiment(
        model=ModelSettings(name=f"tests.field.kinds_models:{model}", input=x.shape[1:], classes=int(y.max()) + 1),
        data=SimulatedData(train=spec, evaluate=spec, partition="iid"),
        training=TrainingSettings(batch_size=8, compute="float32"),
        scheme=SchemeSettings(depth="full"),
        rounds=RoundSettings(count=ROUNDS),
        fleet=FleetSettings(devices=3),
    )
    return simulate(run, directory / "run", engine=engine)


def accuracy(summary: Summary) -> float:
    assert summary.final is not None
    return max(summary.final.accuracy.values())


def final_weights(directory: Path) -> dict[str, np.ndarray]:
    return Checkpoints(directory / "run" / "checkpoints").load(ROUNDS)[0]


def test_a_norm_in_front_of_raw_counts_has_the_variance_that_they_have(engine: LocalEngine, tmp_path: Path) -> None:
    rng, y, t = np.random.default_rng(0), np.arange(360) % 3, np.arange(64)
    phase = rng.uniform(0, 6, (360, 6, 1))
    x = 6000 * np.sin(2 * np.pi * (1 + 2 * y[:, None, None]) * t / 64 + phase) + rng.normal(0, 3000, (360, 6, 64))
    x = (4 * x).clip(-32768, 32767).astype(np.int16)
    learn(engine, tmp_path, "raw_counts", x, y)
    variance = final_weights(tmp_path)["L1.norm.running_var"]
    assert (variance > 2**24).all()
    assert (variance < 2**30).all()


@pytest.mark.parametrize("model", ["own_masks", "one_mask"])
def test_a_mask_of_infinities_stays_and_the_model_learns(engine: LocalEngine, tmp_path: Path, model: str) -> None:
    rng, y = np.random.default_rng(0), np.arange(200) % 2
    x = rng.standard_normal((200, LENGTH, 4)).astype(np.float32) + y[:, None, None]
    assert accuracy(learn(engine, tmp_path, model, x, y)) > 0.9
    masks = [value for name, value in final_weights(tmp_path).items() if name.endswith("mask")]
    assert all(np.array_equal(mask, np.triu(np.full((LENGTH, LENGTH), -np.inf), 1)) for mask in masks)


def test_frozen_weights_are_neither_sent_nor_changed(engine: LocalEngine, tmp_path: Path) -> None:
    rng, y = np.random.default_rng(0), np.arange(200) % 2
    x = rng.standard_normal((200, LENGTH, 4)).astype(np.float32) + y[:, None, None]
    summary = learn(engine, tmp_path, "adapters", x, y)
    before = Checkpoints(tmp_path / "run" / "checkpoints").load(0)[0]
    after = final_weights(tmp_path)
    changed = {name for name, value in after.items() if not np.array_equal(value, before[name])}
    frozen = {name for name in after if ".0." in name and after[name].size in (LENGTH * 4, (LENGTH * 4) ** 2)}
    assert frozen
    assert not frozen & changed
    sent = sum(device.bytes_up for device in summary.rounds[0].devices) / 3
    assert sent < 4 * sum(after[name].size for name in after.keys() - frozen) + 4000 < 4 * (LENGTH * 4) ** 2 * 2


def test_unscaled_numbers_that_make_weights_run_away_are_named(engine: LocalEngine, tmp_path: Path) -> None:
    rng, y = np.random.default_rng(0), np.arange(300) % 3
    x = rng.uniform(5000, 60000, (300, 128)).astype(np.float32)
    with pytest.raises(WorkerError, match=r"training diverged .*lower \[training\] lr, or bring the inputs"):
        learn(engine, tmp_path, "plain", x, y)
