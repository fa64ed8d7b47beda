"""The samples of a simulation and who gets which."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fedlp_edge.errors import ConfigError, DataError
from fedlp_edge.learning.data.dataset import load_data
from fedlp_edge.simulation.experiment import Experiment, FleetSettings, SimulatedData
from fedlp_edge.simulation.simulated_data import SimulationData, assign_data, read_simulation_data
from tests.simulation.conftest import experiment
from tests.two_layers import write_samples


def test_deals_what_a_device_of_a_real_fleet_would_load() -> None:
    run = experiment(data=SimulatedData(train="digits", evaluate="", partition="shards:2", limit=50, seed=9))
    simulation_data = read_simulation_data("digits", "")
    assignment = assign_data(run, simulation_data)
    starts, members = assignment.arrays["starts"], assignment.arrays["members"]
    for number in range(6):
        kept = members[starts[number] : starts[number + 1]]
        own = load_data(f"digits#share={number}/6&partition=shards:2&seed=9&limit=50")
        assert (simulation_data.arrays["train/x"][kept] == own.stored().numpy()).all()
        assert (simulation_data.arrays["train/y"][kept] == own.y.numpy()).all()
        assert assignment.samples_of(number) == len(own)
        assert assignment.priors[number] == pytest.approx((own.y.bincount(minlength=10) / len(own)).numpy())


def test_pictures_that_cannot_be_read_are_missing_where_they_would_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(60):
        path = tmp_path / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (2, 2), number).save(path)
        if number % 15 == 0:
            path.write_bytes(b"")
    spec = f"imagefolder:{tmp_path}#size=2&channels=1"
    run = experiment(data=SimulatedData(train=spec, evaluate="", partition="iid", seed=9))
    simulation_data = read_simulation_data(spec, "")
    assert "left out: 3 pictures that cannot be read (a/30.png is empty" in capsys.readouterr().err
    assignment = assign_data(run, simulation_data)
    starts, members = assignment.arrays["starts"], assignment.arrays["members"]
    for number in range(6):
        kept = members[starts[number] : starts[number + 1]]
        own = load_data(f"{spec}&share={number}/6&partition=iid&seed=9")
        assert simulation_data.arrays["train/x"][kept].tolist() == own.stored().tolist()
        assert simulation_data.arrays["train/y"][kept].tolist() == own.y.tolist()
    assert (
        sum(map(assignment.samples_of, range(6)))
        == len(simulation_data.arrays["train/y"])
        < len(simulation_data.listed)
    )


def test_reads_both_splits_as_they_are_stored(tmp_path: Path) -> None:
    spec = write_samples(tmp_path / "samples.npz", (1.0, -2.0, 3.0), (-4.0,))
    data = read_simulation_data(spec, spec, (1,))
    assert data.arrays["train/x"].tolist() == [[1.0], [-2.0], [3.0]]
    assert (data.arrays["train/y"].tolist(), data.arrays["test/y"].tolist()) == ([0, 1, 0], [1])
    assert (data.classes, data.test_samples, data.listed.tolist(), data.index.tolist()) == (2, 1, [0, 1, 0], [0, 1, 2])
    assert read_simulation_data(spec, "", (1,)).test_samples == 0


def test_tests_on_all_samples_of_a_source_that_nobody_trains_on(tmp_path: Path) -> None:
    x = np.arange(20, dtype=np.float32).reshape(20, 1)
    for name in ("a", "b"):
        np.savez(tmp_path / f"{name}.npz", x=x, y=np.arange(20) % 2)
    train, other = f"npz:{tmp_path}/a.npz", f"npz:{tmp_path}/b.npz"
    assert len(read_simulation_data(train, other).arrays["test/y"]) == 20
    assert len(read_simulation_data(train, f"{other}#holdout=0.5").arrays["test/y"]) < 20
    same = read_simulation_data(train, train).arrays
    assert len(same["train/y"]) + len(same["test/y"]) == 20


def test_refuses_a_test_split_without_samples(tmp_path: Path) -> None:
    spec = write_samples(tmp_path / "samples.npz", (1.0, -2.0, 3.0))
    with pytest.raises(DataError, match="has no samples in its test split"):
        read_simulation_data(spec, spec, (1,))


def test_refuses_a_share_since_every_device_gets_its_own() -> None:
    with pytest.raises(ConfigError) as caught:
        read_simulation_data("digits#share=0/2", "")
    assert str(caught.value) == (
        "[data] train = 'digits#share=0/2' names a share; leave it out: every device gets its own"
    )


def in_memory(classes: list[int]) -> SimulationData:
    y = np.array(classes)
    arrays = {"train/x": np.zeros((len(y), 1), np.float32), "train/y": y}
    return SimulationData(arrays, 3, 1.0, (0.0,), (1.0,), y, np.arange(len(y)))


@settings(max_examples=30)
@given(st.lists(st.integers(0, 2), min_size=8, max_size=30), st.integers(1, 4), st.integers(0, 9))
def test_every_sample_goes_to_one_device(classes: list[int], devices: int, seed: int) -> None:
    data = SimulatedData(train="digits", evaluate="", partition="iid", seed=seed)
    assigned = assign_data(Experiment(data=data, fleet=FleetSettings(devices=devices)), in_memory(classes))
    assert sorted(assigned.arrays["members"].tolist()) == list(range(len(classes)))
    assert sum(map(assigned.samples_of, range(devices))) == len(classes)
    assert assigned.priors.shape == (devices, 3)
    assert assigned.priors.sum(axis=1) == pytest.approx(np.ones(devices))


def test_refuses_a_device_without_a_sample_that_can_be_read() -> None:
    whole = in_memory([0, 1] * 4)
    unreadable = SimulationData(whole.arrays, 2, 1.0, (0.0,), (1.0,), whole.listed, np.arange(1))
    run = Experiment(data=SimulatedData(train="digits", evaluate=""), fleet=FleetSettings(devices=4))
    with pytest.raises(DataError, match=r"digits: device \d has no sample that can be read"):
        assign_data(run, unreadable)
