"""What is written of a simulated run, round by round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedlp_edge.core.metrics.exit_sums import ExitSums
from fedlp_edge.core.planning.planner import Plan
from fedlp_edge.core.rounds.events import CohortMember
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.reporting import events
from fedlp_edge.reporting.summary import FinalModel, load
from fedlp_edge.simulation.engines.jobs import DeviceTrained, PartEvaluated
from fedlp_edge.simulation.experiment import Experiment
from fedlp_edge.simulation.fleet import VirtualDevice
from fedlp_edge.simulation.model_publisher import ModelPublisher
from fedlp_edge.simulation.round_jobs import RoundJobs
from fedlp_edge.simulation.run_recorder import PendingRound, RunRecorder
from fedlp_edge.simulation.schedule import RoundClosing
from fedlp_edge.simulation.simulated_data import DataAssignment
from fedlp_edge.storage.device_values import DeviceValues
from fedlp_edge.storage.journal import Journal
from fedlp_edge.storage.run_directory import RunDirectory
from fedlp_edge.wire.tensors import pack
from tests.coordinator.fleets import tiny_blueprint

A, B = CohortMember("a", 2, 1.0, 10, 10), CohortMember("b", 1, 1.0, 30, 30)
C = CohortMember("c", 0, 1.0, 5, 5)


class Recorded:
    """A recorder of a run of three devices, of which one can bear nothing."""

    def __init__(self, directory: Path) -> None:
        self.directory = RunDirectory.open(directory)
        self.events: list[events.AnyEvent] = []
        experiment = Experiment(rounds=RoundSettings(count=2))
        self.recorder = RunRecorder(
            experiment, self.directory, Journal.open(self.directory.journal), self.events.append
        )
        fleet = {
            member.device: VirtualDevice(number, "pi", Plan(member.depth, 1.0, "why", 0, 1.0), member)
            for number, member in enumerate((A, B, C))
        }
        blueprint = tiny_blueprint()
        values = DeviceValues(directory / "devices")
        jobs = RoundJobs(experiment, blueprint, fleet, values, {1: "float32", 2: "float32"})
        publisher = ModelPublisher(None, blueprint, "none")  # type: ignore[arg-type]  # nothing is published
        for version in (1, 2):
            publisher.restore(version, {"L1": 72})
        assignment = DataAssignment({"starts": np.array([0, 10, 40, 45])}, np.array([[1.0, 0.0], [0.5, 0.5], [0, 1]]))
        self.recorder.begin(blueprint, fleet, assignment, jobs, publisher)

    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.events]


def trained(member: CohortMember, samples: int) -> DeviceTrained:
    return DeviceTrained(member.device, 1, samples, loss=0.5, seconds=2.0, bytes_up=100, compute="float32")


def page(round: int = 1, *lost: CohortMember) -> PendingRound:
    """A round to which a has contributed all, and b nothing."""
    contributors = {member.device: member for member in (A, B) if member not in lost}
    closing = RoundClosing(round, contributors, {m.device: m for m in lost}, {}, contributors, 40, 7.0, round)
    failed = {} if B in lost else {"b": "it crashed"}
    return PendingRound(closing, {"a": trained(A, 10)}, failed, seconds=3.0)


def evaluated(correct: float) -> PartEvaluated:
    sums = {
        "samples": (4.0,),
        "loss": (2.0,),
        "support": (2.0, 2.0),
        "correct": (correct, 2.0),
        "predicted": (2.0, 2.0),
    }
    return PartEvaluated(0, ExitSums({2: sums}, {2: sums}))


def test_start_introduces_every_device(tmp_path: Path) -> None:
    run = Recorded(tmp_path)
    assert run.kinds() == ["RunStarted", "DeviceJoined", "DeviceJoined", "DeviceUnfit"]
    started = run.events[0]
    assert isinstance(started, events.RunStarted)
    assert (started.depths, started.parameters, started.rounds, started.resumed_at) == (2, 6, 2, None)


def test_committed_round_says_what_each_device_did(tmp_path: Path) -> None:
    run = Recorded(tmp_path)
    done = page()
    done.depths, done.judged = (2,), [evaluated(1.0)]
    run.recorder.commit(done)
    (summary,) = run.recorder.summaries
    assert (summary.round, summary.seconds, summary.virtual_seconds) == (1, 3.0, 7.0)
    assert summary.accuracy == {2: 0.75}
    assert summary.loss == {2: 0.5}
    said = {device.id: (device.status, device.samples, device.bytes_up) for device in summary.devices}
    assert said == {"a": ("contributed", 10, 100), "b": ("failed", 0, 0)}
    unit = len(pack({"blocks.0.w": np.zeros(2, np.float32)}))
    first = [(device.bytes_down, device.payload_down, device.payload_up) for device in summary.devices]
    assert first == [(3 * unit, 3 * unit, 100), (2 * unit, 2 * unit, 0)]
    assert summary.tiers == {2: 0.5}  # a has samples of class 0 alone, of which half are right
    finished = run.events[-1]
    assert isinstance(finished, events.RoundFinished)
    assert (finished.contributors, finished.lost) == (1, ())


def test_device_that_never_came_is_lost(tmp_path: Path) -> None:
    run = Recorded(tmp_path)
    run.recorder.commit(page(1, B))
    finished = run.events[-1]
    assert isinstance(finished, events.RoundFinished)
    assert finished.lost == ("b",)


def test_run_that_is_started_again_knows_its_rounds(tmp_path: Path) -> None:
    run = Recorded(tmp_path)
    run.recorder.commit(page())
    again = Recorded(tmp_path)
    assert again.recorder.committed == 1
    assert again.recorder.summaries == run.recorder.summaries
    assert again.recorder.places(1) == {"a": A, "b": B}
    started = again.events[0]
    assert isinstance(started, events.RunStarted)
    assert started.resumed_at == 2


def test_last_round_is_known_before_it_is_committed(tmp_path: Path) -> None:
    run = Recorded(tmp_path)
    assert not run.recorder.ends_with(page(1))
    run.recorder.commit(page(1))
    assert run.recorder.ends_with(page(2))
    assert run.recorder.committed == 1


def test_summary_has_the_final_model(tmp_path: Path) -> None:
    run = Recorded(tmp_path)
    run.recorder.commit(page())
    run.recorder.keep()
    assert load(run.directory.summary).final is None
    final = FinalModel(accuracy={2: 0.75}, model_digest="d" * 64, round=1)
    summary = run.recorder.finish(final, 9.0, {})
    assert summary.final == final
    assert load(run.directory.summary) == summary
    finished = run.events[-1]
    assert isinstance(finished, events.RunFinished)
    assert (finished.rounds, finished.seconds, finished.best) == (1, 9.0, None)


@pytest.mark.parametrize(
    ("tell", "kind"),
    [
        (lambda recorder: recorder.opened(1, ("a",)), "RoundStarted"),
        (lambda recorder: recorder.extended(1, 1, 2), "RoundFailed"),
        (lambda recorder: recorder.waiting(1, 2), "WaitingForDevices"),
        (lambda recorder: recorder.gave_up(page().closing, "b", "it crashed"), "DeviceFailed"),
        (lambda recorder: recorder.worker_died("it was killed"), "WorkerReplaced"),
        (lambda recorder: recorder.accepted(page().closing, trained(A, 10)), "UpdateAccepted"),
    ],
)
def test_what_happens_in_a_round_is_an_event(tmp_path: Path, tell: object, kind: str) -> None:
    run = Recorded(tmp_path)
    tell(run.recorder)  # type: ignore[operator]
    assert run.kinds()[-1] == kind
