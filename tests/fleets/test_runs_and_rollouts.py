"""Agents that stay up from run to run, and what is deployed to them in between (see ``lasting``)."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from coordinator.config import DataSettings
from coordinator.inbox import StopRequested
from coordinator.rollout.rollout_directory import RolloutStatus
from fedlp_edge.storage.checkpoints import Checkpoints
from fedlp_edge.worker.jobs import AnyJob, AnyResult, Build
from tests.fleets.lasting import LastingFleet
from tests.fleets.rolled_out import write_release
from tests.fleets.standin import StandIn, tiny_onnx


def states(found: RolloutStatus) -> dict[str, str]:
    return {device: standing.state for device, standing in found.devices.items()}


def test_agents_that_stay_up_train_and_install_by_turns(tmp_path: Path) -> None:
    fleet = LastingFleet(tmp_path)
    everywhere = dict.fromkeys(fleet.names, "installed")
    for run in ("first", "second"):  # of one configuration, so of one name
        assert fleet.train(run).delivered == everywhere
        assert {fleet.current(name) for name in fleet.names} == {tiny_onnx()}
        assert states(fleet.deploy(f"{run}-same", fleet.run)) == everywhere
        release = write_release(tmp_path / f"release-{run}", run.encode())
        assert states(fleet.deploy(f"{run}-other", release)) == everywhere
        assert {fleet.current(name) for name in fleet.names} == {f"{run} of depth 1".encode()}
    fleet.end()


def test_run_begins_with_the_very_layers_that_the_run_before_has_ended_with(tmp_path: Path) -> None:
    class FineTuning(StandIn):
        weights: Path | None = None

        def _do(self, job: AnyJob) -> AnyResult:
            done = super()._do(job)
            if isinstance(job, Build) and job.state_path is not None and FineTuning.weights is not None:
                shutil.copyfile(FineTuning.weights, job.state_path)
            return done

    fleet = LastingFleet(tmp_path, worker={"coordinator": FineTuning})
    fleet.config = msgspec.structs.replace(fleet.config, data=DataSettings(evaluate=""))  # so devices fetch the layers
    first = fleet.train("first")
    assert first.proofs
    FineTuning.weights = Checkpoints(fleet.run / "checkpoints").weights_path(2)
    summary = fleet.train("second")
    assert [len(entry.devices) for entry in summary.rounds] == [2, 2]
    fleet.end()


def test_run_that_ends_during_a_probation_ends_that(tmp_path: Path) -> None:
    fleet = LastingFleet(tmp_path)
    fleet.train("first")
    release = write_release(tmp_path / "long", b"long")
    life = fleet.begin_roll_out("long", release, canary="", probation_seconds=600.0)
    fleet.pass_time(20.0)
    assert {fleet.current(name) for name in fleet.names} == {b"long of depth 1"}
    life.inbox.put(StopRequested())
    fleet.pass_time(1.0)
    fleet.train("second")
    assert {fleet.current(name) for name in fleet.names} == {tiny_onnx()}
    found = fleet.deploy("next", write_release(tmp_path / "next", b"next"))
    assert states(found) == dict.fromkeys(fleet.names, "installed"), "nothing waits for the end of that probation"
    fleet.end()


def test_release_that_is_ordered_while_an_earlier_life_has_another_on_trial_waits_for_its_end(tmp_path: Path) -> None:
    fleet = LastingFleet(tmp_path)
    fleet.train("first")
    life = fleet.begin_roll_out("good", write_release(tmp_path / "good", b"good"), canary="", probation_seconds=15.0)
    fleet.pass_time(20.0)
    assert {fleet.current(name) for name in fleet.names} == {b"good of depth 1"}
    for name in ("good", *fleet.names):
        fleet.kill(name)
    assert life.ended
    for name in fleet.names:
        fleet.start(name)
    fleet.pass_time(2.0)
    found = fleet.deploy("bad", write_release(tmp_path / "bad", b"bad"), canary="")
    assert states(found) == dict.fromkeys(fleet.names, "failed")
    for name in fleet.names:
        assert fleet.current(name) == b"good of depth 1", "it passed its probation before the bad one was tried"
        assert list((tmp_path / name / "releases").iterdir()) == []
    fleet.end()
