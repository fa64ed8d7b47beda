"""Which file a round's own values come from, however often the round is done."""

from __future__ import annotations

from pathlib import Path

from device_agent.device_values import DeviceValues, ValuesOfRound


def test_first_round_starts_from_nothing(tmp_path: Path) -> None:
    values = DeviceValues(tmp_path / "personal")
    assert values.before("run", 1, 1) is None


def test_round_done_again_starts_where_it_started_before(tmp_path: Path) -> None:
    values = DeviceValues(tmp_path)
    values.after("run", 1, 3).write_bytes(b"three")
    start = values.before("run", 1, 5)
    values.after("run", 1, 5).write_bytes(b"five")

    assert start == ValuesOfRound(3, values.after("run", 1, 3))
    assert values.before("run", 1, 5) == start
    assert values.before("run", 1, 12) == ValuesOfRound(5, values.after("run", 1, 5))


def test_values_that_no_round_can_start_from_any_more_are_removed(tmp_path: Path) -> None:
    values = DeviceValues(tmp_path)
    for round in (1, 2, 10):
        values.after("run", 1, round).write_bytes(b"")
    values.before("run", 1, 10)

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "run-depth-1.round-10.safetensors",
        "run-depth-1.round-2.safetensors",
    ]


def test_values_of_another_depth_or_run_are_left_alone(tmp_path: Path) -> None:
    values = DeviceValues(tmp_path)
    for run, depth in (("run", 2), ("run-depth-1", 1), ("other", 1)):
        values.after(run, depth, 1).write_bytes(b"")

    assert values.before("run", 1, 2) is None
    assert len(list(tmp_path.iterdir())) == 3
