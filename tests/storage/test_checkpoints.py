from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from fedlp_edge.errors import StorageError
from fedlp_edge.storage.checkpoints import Checkpoints

WEIGHTS = {"a": np.array([1.5, -2.0], np.float32), "b": np.array(3.0, np.float32)}
MOMENTS = {"m/a": np.array([0.25, 0.5], np.float32)}


def test_loads_what_was_saved(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c")
    checkpoints.save(3, WEIGHTS, MOMENTS)
    weights, moments = checkpoints.load(3)
    assert {name: array.tolist() for name, array in weights.items()} == {"a": [1.5, -2.0], "b": 3.0}
    assert moments["m/a"].tolist() == [0.25, 0.5]


def test_needs_no_second_file_without_server_state(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, WEIGHTS, {})
    assert [path.name for path in tmp_path.iterdir()] == ["round-00001.safetensors"]
    assert checkpoints.load(1)[1] == {}


def test_keeps_the_average_apart_under_the_names_of_the_model(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    state = {"ema/a": np.array([1.0, -1.0], np.float32), "ema/b": np.array(2.0, np.float32), **MOMENTS}
    checkpoints.save(1, WEIGHTS, state)
    checkpoints.save(2, WEIGHTS, MOMENTS)
    assert {name: array.tolist() for name, array in load_file(checkpoints.evaluated_path(1)).items()} == {
        "a": [1.0, -1.0],
        "b": 2.0,
    }
    assert checkpoints.evaluated_path(2) == checkpoints.weights_path(2)
    weights, loaded = checkpoints.load(1)
    assert set(weights) == {"a", "b"}
    assert {name: array.tolist() for name, array in loaded.items()} == {
        name: array.tolist() for name, array in state.items()
    }


def test_keeps_only_the_latest(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for round in range(1, 5):
        checkpoints.save(round, WEIGHTS, {**MOMENTS, "ema/a": WEIGHTS["a"]})
        checkpoints.prune(round)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "round-00003.ema.safetensors",
        "round-00003.safetensors",
        "round-00003.server.safetensors",
        "round-00004.ema.safetensors",
        "round-00004.safetensors",
        "round-00004.server.safetensors",
    ]


def test_says_which_checkpoint_is_damaged(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, WEIGHTS, {}).write_bytes(b"half")
    with pytest.raises(StorageError, match=r"cannot read the checkpoint .*round-00001"):
        checkpoints.load(1)
    with pytest.raises(StorageError, match="round-00009"):
        checkpoints.load(9)
