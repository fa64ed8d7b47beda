"""Which file a round's personal head starts from, however often the round is done."""

from __future__ import annotations

from pathlib import Path

from device_agent.personal import PersonalHeads


def test_first_round_starts_from_nothing(tmp_path: Path) -> None:
    heads = PersonalHeads(tmp_path / "personal")
    assert heads.before("run", 1, 1) is None


def test_round_done_again_starts_where_it_started_before(tmp_path: Path) -> None:
    heads = PersonalHeads(tmp_path)
    heads.after("run", 1, 3).write_bytes(b"three")
    start = heads.before("run", 1, 5)
    heads.after("run", 1, 5).write_bytes(b"five")

    assert start == heads.after("run", 1, 3)
    assert heads.before("run", 1, 5) == start
    assert heads.before("run", 1, 12) == heads.after("run", 1, 5)


def test_heads_that_no_round_can_start_from_any_more_are_removed(tmp_path: Path) -> None:
    heads = PersonalHeads(tmp_path)
    for round in (1, 2, 10):
        heads.after("run", 1, round).write_bytes(b"")
    heads.before("run", 1, 10)

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "run-depth-1.round-10.safetensors",
        "run-depth-1.round-2.safetensors",
    ]


def test_heads_of_another_depth_or_run_are_left_alone(tmp_path: Path) -> None:
    heads = PersonalHeads(tmp_path)
    for run, depth in (("run", 2), ("run-depth-1", 1), ("other", 1)):
        heads.after(run, depth, 1).write_bytes(b"")

    assert heads.before("run", 1, 2) is None
    assert len(list(tmp_path.iterdir())) == 3
