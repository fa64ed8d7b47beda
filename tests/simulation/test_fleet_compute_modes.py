"""One compute mode per depth for a whole run."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import pytest

from fedlp_edge.core.planning.planner import Plan
from fedlp_edge.core.rounds.events import CohortMember
from fedlp_edge.core.settings import ComputeMode, TrainingSettings
from fedlp_edge.errors import StorageError
from fedlp_edge.simulation.engines.jobs import ChooseCompute, ComputeChosen, Reply, SimulationJob
from fedlp_edge.simulation.experiment import Experiment
from fedlp_edge.simulation.fleet import VirtualDevice
from fedlp_edge.simulation.fleet_compute_modes import compute_modes


class Finding:
    """An engine with one worker that finds ``bfloat16`` for every depth."""

    workers = 1

    def __init__(self) -> None:
        self.given: list[SimulationJob] = []
        self._answers: deque[Reply] = deque()

    def submit(self, worker: int, job: SimulationJob) -> None:
        assert isinstance(job, ChooseCompute)
        self.given.append(job)
        self._answers.append(ComputeChosen(job.depth, "bfloat16"))

    def next_reply(self, seconds: float) -> tuple[int, Reply]:
        return 0, self._answers.popleft()


def fleet(*members: tuple[int, int]) -> dict[str, VirtualDevice]:
    """Devices with a depth and a number of samples each."""
    devices = {}
    for number, (depth, samples) in enumerate(members):
        member = CohortMember(f"d{number}", depth, 1.0, samples, samples)
        devices[member.device] = VirtualDevice(number, "", Plan(depth, 1.0, "", 0, 1.0), member)
    return devices


def modes(engine: Finding, path: Path, compute: str = "auto") -> dict[int, ComputeMode]:
    run = Experiment(training=TrainingSettings(compute=compute))  # type: ignore[arg-type]
    devices = fleet((1, 10), (1, 30), (2, 20), (0, 99))
    return compute_modes(run, devices, engine, path, lambda: False)  # type: ignore[arg-type]


def test_measures_each_depth_on_its_device_with_most_samples_once(tmp_path: Path) -> None:
    path = tmp_path / "compute.json"
    engine = Finding()
    assert modes(engine, path) == {1: "bfloat16", 2: "bfloat16"}
    assert engine.given == [ChooseCompute(1, 1), ChooseCompute(2, 2)]
    resumed = Finding()
    assert modes(resumed, path) == {1: "bfloat16", 2: "bfloat16"}
    assert resumed.given == []


def test_measures_what_the_file_does_not_know_yet(tmp_path: Path) -> None:
    path = tmp_path / "compute.json"
    path.write_text('{"1": "float32"}')
    engine = Finding()
    assert modes(engine, path) == {1: "float32", 2: "bfloat16"}
    assert engine.given == [ChooseCompute(2, 2)]
    assert path.read_text() == '{"1":"float32","2":"bfloat16"}'


def test_takes_a_configured_mode_without_measuring(tmp_path: Path) -> None:
    engine = Finding()
    assert modes(engine, tmp_path / "compute.json", "float32") == {1: "float32", 2: "float32"}
    assert (engine.given, list(tmp_path.iterdir())) == ([], [])


def test_refuses_a_file_that_holds_something_else(tmp_path: Path) -> None:
    path = tmp_path / "compute.json"
    path.write_text('{"1": "fast"}')
    with pytest.raises(StorageError, match=r"compute\.json: Invalid enum value 'fast'"):
        modes(Finding(), path)
