"""Which values a round starts from, however often it is done, and which files stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedlp_edge.errors import StorageError
from fedlp_edge.storage.device_values import DeviceValues


def test_first_round_starts_from_nothing(tmp_path: Path) -> None:
    assert DeviceValues(tmp_path / "missing").before("run-depth-1", 1) is None


def test_round_done_again_starts_where_it_started_before(tmp_path: Path) -> None:
    values = DeviceValues(tmp_path)
    values.path("run-depth-1", 3).write_bytes(b"three")
    assert values.before("run-depth-1", 5) == 3
    values.path("run-depth-1", 5).write_bytes(b"five")

    assert values.before("run-depth-1", 5) == 3
    assert values.before("run-depth-1", 12) == 5
    assert DeviceValues(tmp_path).before("run-depth-1", 12) == 5


def test_a_round_whose_values_were_never_written_is_passed_over(tmp_path: Path) -> None:
    values = DeviceValues(tmp_path)
    values.path("run-depth-1", 3).write_bytes(b"three")
    values.path("run-depth-1", 4)
    assert values.before("run-depth-1", 5) == 3


def test_values_that_no_round_can_start_from_any_more_are_removed(tmp_path: Path) -> None:
    values = DeviceValues(tmp_path)
    for round in (1, 2, 10):
        values.path("run-depth-1", round).write_bytes(b"")
    values.prune("run-depth-1", 9)

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "run-depth-1.round-10.safetensors",
        "run-depth-1.round-2.safetensors",
    ]


def test_values_of_another_owner_are_left_alone(tmp_path: Path) -> None:
    values = DeviceValues(tmp_path)
    for owner in ("run-depth-2", "run-depth-1-depth-1", "other-depth-1"):
        values.path(owner, 1).write_bytes(b"")
    values.prune("run-depth-1", 9)

    assert values.before("run-depth-1", 2) is None
    assert len(list(tmp_path.iterdir())) == 3


def test_keeps_the_bytes_that_each_round_left(tmp_path: Path) -> None:
    values = DeviceValues(tmp_path / "made")
    values.write("dev-1", 2, b"two")
    values.write("dev-1", 5, b"five")
    values.write("dev-1", 5, b"five again")
    values.write("dev-2", 1, b"one")
    assert [values.before("dev-1", round) for round in (1, 2, 3, 5, 6)] == [None, None, 2, 2, 5]
    assert values.read("dev-1", 2) == b"two"
    values.prune_all(4)
    assert values.before("dev-1", 5) == 2
    values.prune_all(5)
    assert DeviceValues(tmp_path / "made").before("dev-1", 9) == 5
    assert DeviceValues(tmp_path / "made").read("dev-1", 5) == b"five again"
    assert len(list((tmp_path / "made").iterdir())) == 2


def test_says_which_file_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"dev-1\.round-3"):
        DeviceValues(tmp_path).read("dev-1", 3)


def test_values_of_a_run_before_of_the_same_name_are_forgotten(tmp_path: Path) -> None:
    values = DeviceValues(tmp_path)
    for round in (1, 5):
        values.path("run-depth-1", round).write_bytes(b"")
    values.forget_after("run-depth-1", 1)
    assert values.before("run-depth-1", 6) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run-depth-1.round-1.safetensors"]


def test_what_kills_have_left_of_values_is_removed(tmp_path: Path) -> None:
    for name in ("run-depth-1.round-3.safetensors", ".tmpaB3xYz", "run-depth-1.round-4.safetensors.part"):
        (tmp_path / name).write_bytes(b"half")
    assert DeviceValues(tmp_path).before("run-depth-1", 5) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["run-depth-1.round-3.safetensors"]
