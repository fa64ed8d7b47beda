from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from fedlp_edge.core.algorithm.server_state import ServerState
from fedlp_edge.errors import StorageError
from fedlp_edge.storage.checkpoints import Checkpoints

WEIGHTS = {"a": np.array([1.5, -2.0], np.float32), "b": np.array(3.0, np.float32)}
MOMENTS = ServerState(first_moments={"a": np.array([0.25, 0.5], np.float32)})


def test_loads_what_was_saved(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c")
    checkpoints.save(3, WEIGHTS, MOMENTS)
    weights, moments = checkpoints.load(3)
    assert {name: array.tolist() for name, array in weights.items()} == {"a": [1.5, -2.0], "b": 3.0}
    assert moments.first_moments["a"].tolist() == [0.25, 0.5]


def tables_of(state: ServerState) -> list[dict[str, list[float]]]:
    tables = (state.first_moments, state.second_moments, state.averages, state.last_updates)
    return [{name: value.tolist() for name, value in table.items()} for table in tables]


def test_loads_every_table_of_the_state_and_keeps_the_names_that_its_file_always_had(tmp_path: Path) -> None:
    one, two = np.array([0.25, 0.5], np.float32), np.array(2.0, np.float32)
    state = ServerState({"a": one}, {"a": one, "b": two}, {"b": two}, {"a": two}, {"L1": 0.5, "H/1": 0.25})
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"b": two}, state)
    loaded = checkpoints.load(1)[1]
    assert tables_of(loaded) == tables_of(state)
    assert loaded.changes == state.changes
    assert set(load_file(tmp_path / "round-00001.server.safetensors")) == {
        "m/a", "v/a", "v/b", "last/a", "change/L1", "change/H/1",
    }  # fmt: skip


def test_needs_no_second_file_without_server_state(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, WEIGHTS, ServerState())
    assert [path.name for path in tmp_path.iterdir()] == ["round-00001.safetensors"]
    assert checkpoints.load(1)[1] == ServerState()


def test_keeps_the_average_apart_under_the_names_of_the_model(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    averages = {"a": np.array([1.0, -1.0], np.float32), "b": np.array(2.0, np.float32)}
    state = replace(MOMENTS, averages=averages)
    checkpoints.save(1, WEIGHTS, state)
    checkpoints.save(2, WEIGHTS, MOMENTS)
    assert {name: array.tolist() for name, array in load_file(checkpoints.evaluated_path(1)).items()} == {
        "a": [1.0, -1.0],
        "b": 2.0,
    }
    assert checkpoints.evaluated_path(2) == checkpoints.weights_path(2)
    weights, loaded = checkpoints.load(1)
    assert set(weights) == {"a", "b"}
    assert tables_of(loaded) == tables_of(state)


def test_keeps_only_the_latest(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for round in range(1, 5):
        checkpoints.save(round, WEIGHTS, replace(MOMENTS, averages={"a": WEIGHTS["a"]}))
        checkpoints.prune(round)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "round-00003.ema.safetensors",
        "round-00003.safetensors",
        "round-00003.server.safetensors",
        "round-00004.ema.safetensors",
        "round-00004.safetensors",
        "round-00004.server.safetensors",
    ]


def test_keeps_what_is_named_beside_the_latest(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    for round in range(1, 4):
        checkpoints.save(round, WEIGHTS, ServerState())
        checkpoints.prune(round, kept={1})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["round-00001.safetensors", "round-00003.safetensors"]
    assert (checkpoints.has(1), checkpoints.has(2)) == (True, False)


def test_says_which_checkpoint_is_damaged(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, WEIGHTS, ServerState()).write_bytes(b"half")
    with pytest.raises(StorageError, match=r"cannot read the checkpoint .*round-00001"):
        checkpoints.load(1)
    with pytest.raises(StorageError, match="round-00009"):
        checkpoints.load(9)


def test_what_kills_have_left_of_checkpoints_is_removed_before_the_next_one(tmp_path: Path) -> None:
    for name in (".tmpaB3xYz", ".tmp0000Zz", "round-00003.safetensors.part", "notes.txt"):
        (tmp_path / name).write_bytes(b"half")
    Checkpoints(tmp_path).save(4, WEIGHTS, ServerState())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "round-00004.safetensors"]
