"""Rates, recycling, periods, averages and asynchronous rounds on whole fleets in virtual time (see ``virtual``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from fedlp_edge.core.settings import UpdateSettings
from fedlp_edge.reporting.summary import Summary
from fedlp_edge.storage.checkpoints import Checkpoints
from tests.fleets.standin import StandIn
from tests.fleets.virtual import VirtualFleet

PERIODS = {"rounds": 4, "scheme": {"exchange_every": {"L1": 2, "H2": 3}}, "head_mode": "personal"}
FEEDBACK = {"rounds": 3, "lpr": 0.6, "update": UpdateSettings(encoding="int2+zstd", error_feedback=True)}
HISTORY = {"rounds": 4, "scheme": {"recycle": 1, "rates": "importance"}, "lpr": 0.6, "ema": 0.5}


class Slow(StandIn):
    """Trains four times as long as the others."""

    def __init__(self, *args, **more) -> None:  # type: ignore[no-untyped-def]
        super().__init__(*args, seconds=4.0, **more)


def finished(directory: Path, die: dict[str, int] | None = None, **settings: object) -> tuple[VirtualFleet, Summary]:
    fleet = VirtualFleet(directory, **settings)  # type: ignore[arg-type]
    fleet.start_all(die)
    return fleet, fleet.finish()


def sent(summary: Summary, unit: str) -> list[list[str]]:
    """Who sent a unit, by round."""
    return [sorted(entry.coverage[unit]) for entry in summary.rounds]


def killed_now_and_then(directory: Path, victim: str, every: int, **settings: object) -> tuple[Summary, list[Summary]]:
    """The run without faults, and runs in which one service is killed before some step."""
    first, expected = finished(directory / "undisturbed", **settings)
    steps = range(1, len(first.steps(victim)) + 1, every)
    return expected, [finished(directory / f"{step}", {victim: step}, **settings)[1] for step in steps]


def test_units_stay_at_home_until_they_are_due(tmp_path: Path) -> None:
    fleet, summary = finished(tmp_path, **PERIODS)
    assert sent(summary, "L1") == [[], ["dev-0", "dev-1"], [], ["dev-0", "dev-1"]]
    assert sent(summary, "H2") == [[], [], ["dev-1"], []]
    assert sent(summary, "L2") == [["dev-1"]] * 4
    states = [load_file(Checkpoints(fleet.run / "checkpoints").weights_path(round)) for round in range(5)]
    assert [bool(np.array_equal(states[r]["l1.weight"], states[r + 1]["l1.weight"])) for r in range(4)] == [
        True,
        False,
        True,
        False,
    ]


def test_changes_of_a_whole_stretch_are_sent(tmp_path: Path) -> None:
    """With L1 exchanged in every second round, the model differs from one whose device forgets the first."""
    _, kept = finished(tmp_path / "kept", **PERIODS)
    forgetful = VirtualFleet(tmp_path / "forgetful", worker={"dev-1": Forgetful}, **PERIODS)  # type: ignore[arg-type]
    forgetful.start_all()
    assert kept.final is not None
    assert forgetful.finish().final != kept.final


class Forgetful(StandIn):
    """Never goes on from its own values."""

    def _names(self, units) -> list[str]:  # type: ignore[no-untyped-def]
        return []


@pytest.mark.parametrize("settings", [PERIODS, HISTORY, FEEDBACK], ids=["periods", "history", "feedback"])
@pytest.mark.parametrize("victim", ["coordinator", "dev-1"])
def test_ends_with_the_same_model_whoever_is_killed(tmp_path: Path, victim: str, settings: dict[str, object]) -> None:
    expected, runs = killed_now_and_then(tmp_path, victim, 17, **settings)
    assert len(runs) > 5
    for summary in runs:
        assert summary.final == expected.final
        assert [entry.coverage for entry in summary.rounds] == [entry.coverage for entry in expected.rounds]


def test_evaluates_and_exports_the_average_of_the_models(tmp_path: Path) -> None:
    fleet, _ = finished(tmp_path, rounds=2, ema=0.5)
    checkpoints = Checkpoints(fleet.run / "checkpoints")
    first, last = (load_file(checkpoints.weights_path(round)) for round in (1, 2))
    for name, value in load_file(checkpoints.evaluated_path(2)).items():
        np.testing.assert_allclose(value, (first[name] + 2 * last[name]) / 3, rtol=1e-5, atol=1e-6)


ASYNCHRONOUS = {
    "devices": 3,
    "rounds": 8,
    "mode": "buffered",
    "buffer_size": 2,
    "worker": {"dev-2": Slow},
    "deadline_seconds": 60.0,
}


def tasks_counted(summary: Summary) -> list[tuple[str, int]]:
    """Device and round of the task, of every update that was counted."""
    return [
        (device.id, entry.round - device.staleness)
        for entry in summary.rounds
        for device in entry.devices
        if device.status == "contributed"
    ]


def test_slow_device_holds_up_nobody_and_still_counts(tmp_path: Path) -> None:
    fleet, summary = finished(tmp_path, **ASYNCHRONOUS)
    # Eight rounds with the slow one would take 32 seconds in training alone.
    assert fleet.world.now < 24
    assert len(summary.rounds) == 8
    assert all(len(entry.devices) == 2 for entry in summary.rounds)
    stale = [d for entry in summary.rounds for d in entry.devices if d.id == "dev-2"]
    assert stale
    assert all(device.staleness > 1 for device in stale)
    assert len(set(tasks_counted(summary))) == len(tasks_counted(summary))
    assert not list((fleet.run / "spool").iterdir())


@pytest.mark.parametrize("victim", ["coordinator", "dev-1", "dev-2"])
def test_asynchronous_run_keeps_its_promises_whoever_is_killed(tmp_path: Path, victim: str) -> None:
    # Within five rounds, an update of the slow device is counted.
    expected, runs = killed_now_and_then(tmp_path, victim, 13, **{**ASYNCHRONOUS, "rounds": 5})
    assert "dev-2" in dict(tasks_counted(expected))
    assert len(runs) > 5
    for summary in runs:
        assert [entry.round for entry in summary.rounds] == list(range(1, 6))
        assert len(set(tasks_counted(summary))) == len(tasks_counted(summary))
        assert all(any(d.status == "contributed" for d in entry.devices) for entry in summary.rounds)
