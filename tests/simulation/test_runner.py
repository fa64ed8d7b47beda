"""A simulation from its first round to its last, with workers in this process and a model as small as can be."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.core.settings import SchemeSettings
from fedlp_edge.errors import DeviceError, WorkerError
from fedlp_edge.reporting.events import AnyEvent, RoundFinished, RunFinished, UpdateAccepted
from fedlp_edge.reporting.summary import Summary, load
from fedlp_edge.simulation.engines.base import SimulationStoppedError
from fedlp_edge.simulation.experiment import Experiment, FleetSettings, SimulatedData
from fedlp_edge.simulation.runner import Simulation
from fedlp_edge.storage.checkpoints import Checkpoints
from fedlp_edge.storage.journal import Journal
from fedlp_edge.storage.run_directory import RunDirectory
from tests.simulation.in_process import InProcessEngine
from tests.two_layers import ONE_STEP, SETTINGS, write_samples


def experiment(directory: Path, **changes: object) -> Experiment:
    """Two devices of depth 2 with two equal samples of class 0 each, and every layer sent."""
    directory.mkdir(exist_ok=True)
    spec = write_samples(directory / "samples.npz", (1.0, 1.0, 1.0, 1.0), (1.0, 2.0))
    settings: dict[str, object] = {
        "model": SETTINGS,
        "data": SimulatedData(train=spec, evaluate=spec, partition="iid"),
        "training": ONE_STEP,
        "scheme": SchemeSettings(lpr=1.0),
        "rounds": RoundSettings(count=2),
        "fleet": FleetSettings(devices=2, depth_mix=(0.0, 1.0)),
    }
    return Experiment(**settings | changes)  # type: ignore[arg-type]


class Run:
    """A simulation in a directory, and its events."""

    def __init__(
        self, run: Experiment, directory: Path, workers: int = 1, stopped: Callable[[], bool] = lambda: False
    ) -> None:
        self.events: list[AnyEvent] = []
        self.engine = InProcessEngine(workers)
        self.directory = RunDirectory.open(directory)
        self.journal = Journal.open(self.directory.journal)
        self.simulation = Simulation(
            run, self.directory, self.journal, self.engine, emit=self.events.append, stopped=stopped
        )

    def finish(self) -> Summary:
        with closing(self.journal):
            return self.simulation.run()

    def weights(self, round: int) -> dict[str, list[object]]:
        stored, _ = Checkpoints(self.directory.checkpoints).load(round)
        return {name: np.round(values, 4).tolist() for name, values in stored.items()}

    def rounds(self) -> list[int]:
        return [event.round for event in self.events if isinstance(event, RoundFinished)]


def digest(summary: Summary) -> str:
    assert summary.final is not None
    return summary.final.model_digest


def test_model_of_a_round_is_the_mean_of_its_updates(tmp_path: Path) -> None:
    run = Run(experiment(tmp_path / "data", rounds=RoundSettings(count=1)), tmp_path / "run")
    summary = run.finish()
    assert run.weights(0)["L1.weight"] == [[1.0], [1.0]]
    # Both devices compute the same, so their mean is what each of them has sent.
    assert run.weights(1)["L1.weight"] == [[1.5], [0.5]]
    assert run.weights(1)["L2.weight"] == [[1.5, 0.5], [-0.5, 0.5]]
    (entry,) = summary.rounds
    assert [(device.id, device.status, device.samples) for device in entry.devices] == [
        ("dev-0", "contributed", 2),
        ("dev-1", "contributed", 2),
    ]
    assert entry.accuracy == {2: 1.0}
    assert load(run.directory.summary) == summary


def test_number_of_workers_does_not_matter(tmp_path: Path) -> None:
    digests = {
        digest(Run(experiment(tmp_path / "data"), tmp_path / str(workers), workers).finish()) for workers in (1, 2, 3)
    }
    assert len(digests) == 1


def test_stopped_run_goes_on_where_it_was(tmp_path: Path) -> None:
    run = experiment(tmp_path / "data", rounds=RoundSettings(count=3))
    whole = Run(run, tmp_path / "whole")
    expected = whole.finish()
    cut = Run(run, tmp_path / "cut", stopped=lambda: 2 in cut.rounds())
    with pytest.raises(SimulationStoppedError):
        cut.finish()
    assert cut.simulation.round == 3
    assert [entry.round for entry in load(cut.directory.summary).rounds] == [1, 2]
    again = Run(run, tmp_path / "cut")
    assert digest(again.finish()) == digest(expected)
    assert again.rounds() == [3]


def test_workers_hold_no_more_versions_than_they_need(tmp_path: Path) -> None:
    run = Run(experiment(tmp_path / "data", rounds=RoundSettings(count=4)), tmp_path / "run")
    run.finish()
    assert set(run.engine.published) == {4}


def test_round_whose_devices_all_fail_ends_the_run_with_the_reason(tmp_path: Path) -> None:
    diverging = experiment(tmp_path / "data", training=type(ONE_STEP)(lr=1e39, batch_size=2, compute="float32"))
    run = Run(diverging, tmp_path / "run")
    with pytest.raises(WorkerError, match=r"^round 1: "):
        run.finish()
    assert "DeviceFailed" in [type(event).__name__ for event in run.events]


def test_fleet_that_can_bear_nothing_ends_the_run(tmp_path: Path) -> None:
    profile = tmp_path / "tiny.toml"
    profile.write_text('name = "tiny"\ntraining_memory_mb = 1\n')
    fleet = FleetSettings(devices=2, profiles={str(profile): 1.0})
    with pytest.raises(DeviceError) as caught:
        Run(experiment(tmp_path / "data", fleet=fleet), tmp_path / "run").finish()
    assert str(caught.value) == (
        "no device of the fleet can bear even depth 1: take larger profiles or a smaller model"
    )


def test_events_tell_the_run_in_order(tmp_path: Path) -> None:
    run = Run(experiment(tmp_path / "data", rounds=RoundSettings(count=1)), tmp_path / "run")
    run.finish()
    assert [type(event).__name__ for event in run.events] == [
        *("RunStarted", "DeviceJoined", "DeviceJoined", "RoundStarted", "UpdateAccepted", "UpdateAccepted"),
        *("RoundFinished", "RunFinished"),
    ]
    accepted = [event for event in run.events if isinstance(event, UpdateAccepted)]
    assert {event.layers_sent for event in accepted} == {("L1", "L2", "H2")}
    finished = run.events[-1]
    assert isinstance(finished, RunFinished)
    assert (finished.rounds, finished.accuracy) == (1, {2: 1.0})
