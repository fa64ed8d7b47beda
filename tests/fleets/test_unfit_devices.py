"""Devices that cannot do their task: beside two good ones, and in fleets where none can."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedlp_edge.errors import DeviceError
from fedlp_edge.probe.profiles import DeviceProfile
from fedlp_edge.reporting.events import (
    AllDevicesUnfit,
    DeviceFailed,
    DeviceSetAside,
    DeviceUnfit,
    ModelDelivered,
    RoundStarted,
)
from fedlp_edge.reporting.summary import DeviceOutcome, Summary, load
from fedlp_edge.wire.tensors import pack_file
from fedlp_edge.worker.jobs import AnyJob, AnyResult, Build, Failed, Train
from tests.fleets import virtual
from tests.fleets.standin import StandIn, profile_of
from tests.fleets.virtual import VirtualFleet


class LabelsOutOfRange(StandIn):
    def _do(self, job: AnyJob) -> AnyResult:
        if isinstance(job, Train):
            self.trainings += 1
            return Failed(kind="data", reason="the labels go up to 7 but the model has 2 classes (0 to 1)")
        return super()._do(job)


class OtherModel(StandIn):
    def _do(self, job: AnyJob) -> AnyResult:
        if isinstance(job, Build):
            return Failed(kind="model", reason="there is no model of that name here")
        return super()._do(job)


class Crashing(StandIn):
    def _do(self, job: AnyJob) -> AnyResult:
        if isinstance(job, Train):
            self.trainings += 1
            return Failed(kind="worker", reason="the worker process was ended by SIGILL")
        return super()._do(job)


class NotFinite(StandIn):
    def _do(self, job: AnyJob) -> AnyResult:
        result = super()._do(job)
        if isinstance(job, Train):
            for unit, names in job.sent.items():
                nothing = {name: np.full(600, np.nan, np.float32) for name in names}
                pack_file(nothing, Path(job.delta_dir) / f"{unit}.safetensors")
        return result


class CrashingOnce(Crashing):
    def _do(self, job: AnyJob) -> AnyResult:
        return StandIn._do(self, job) if isinstance(job, Train) and self.trainings else super()._do(job)


LASTING = {
    "labels": (LabelsOutOfRange, "labels go up to 7", 1),
    "model": (OtherModel, "no model of that name", 0),
    "values": (NotFinite, "holds a value that is not finite", 3),
}

EVERY_MODE = pytest.mark.parametrize("mode", ["synchronous", "buffered"])


def outcome(summary: Summary, device: str) -> DeviceOutcome:
    return next(entry for entry in summary.devices if entry.id == device)


def trainings(fleet: VirtualFleet, kind: type[StandIn]) -> int:
    return sum(worker.trainings for worker in fleet.workers if isinstance(worker, kind))


@EVERY_MODE
@pytest.mark.parametrize("fault", LASTING)
def test_two_good_devices_go_on_without_one_that_is_unfit(tmp_path: Path, fault: str, mode: str) -> None:
    kind, words, attempts = LASTING[fault]
    fleet = VirtualFleet(
        tmp_path, devices=3, rounds=6, quorum=1.0, worker={"dev-1": kind}, mode=mode, buffer_size=2, deadline_seconds=60
    )
    fleet.start_all()
    summary = fleet.finish()
    assert summary.final is not None
    assert summary.traffic["direct"].bytes > 3000, "the final models are in the books"
    assert [outcome(summary, name).contributed for name in ("dev-0", "dev-2")] == [6, 6]
    bad = outcome(summary, "dev-1")
    assert (bad.contributed, bad.state) == (0, "unfit")
    assert words in bad.reason
    assert bad.needs_attention
    assert not outcome(summary, "dev-0").needs_attention
    assert trainings(fleet, kind) == attempts
    assert fleet.world.now < 60, "no deadline is waited for"
    assert [e.device for e in fleet.events if isinstance(e, DeviceUnfit)] == ["dev-1"]


@EVERY_MODE
@pytest.mark.parametrize("fault", LASTING)
def test_run_ends_with_the_reason_when_it_is_the_same_for_all(tmp_path: Path, fault: str, mode: str) -> None:
    kind, words, attempts = LASTING[fault]
    names = ("dev-0", "dev-1", "dev-2")
    fleet = VirtualFleet(tmp_path, devices=3, worker=dict.fromkeys(names, kind), mode=mode, deadline_seconds=600)
    fleet.start_all()
    with pytest.raises(DeviceError, match=words) as raised:
        fleet.finish()
    if fault != "values":  # these name their tensors
        assert str(raised.value).startswith("none of the 3 devices can do its task, all for the same reason: ")
    assert trainings(fleet, kind) == 3 * attempts
    assert fleet.world.now < 100
    summary = load(fleet.run / "summary.json")
    assert (summary.final, summary.rounds) == (None, ())
    assert {entry.state for entry in summary.devices} == {"unfit"}


def test_run_waits_a_while_for_others_when_the_first_device_is_unfit(tmp_path: Path) -> None:
    fleet = VirtualFleet(tmp_path, devices=2, min_devices=1, worker={"dev-0": LabelsOutOfRange})
    fleet.start("coordinator")
    fleet.start("dev-0")
    fleet.world.after(15.0, lambda: fleet.start("dev-1"))
    summary = fleet.finish()
    assert outcome(summary, "dev-1").contributed == 2
    assert any(isinstance(event, AllDevicesUnfit) for event in fleet.events)


def test_device_that_crashes_rests_longer_each_time_then_is_set_aside(tmp_path: Path) -> None:
    fleet = VirtualFleet(tmp_path, devices=3, rounds=14, worker={"dev-1": Crashing})
    fleet.start_all()
    summary = fleet.finish()
    tried = [e.round for e in fleet.events if isinstance(e, RoundStarted) and "dev-1" in e.devices]
    assert tried == [1, 2, 4, 8]
    assert [(e.device, e.failures, e.again) for e in fleet.events if isinstance(e, DeviceSetAside)] == [
        ("dev-1", 4, 16)
    ]
    bad = outcome(summary, "dev-1")
    assert (bad.contributed, bad.failed, bad.state) == (0, 4, "set aside")
    failed = [device for entry in summary.rounds for device in entry.devices if device.status == "failed"]
    assert {device.reason for device in failed} == {"the worker process was ended by SIGILL"}
    assert all(device.bytes_down > 0 for device in failed), "what they received in vain is counted, too"


def test_run_in_which_everybody_crashes_ends_without_waiting_for_a_deadline(tmp_path: Path) -> None:
    worker = {"dev-0": Crashing, "dev-1": Crashing}
    fleet = VirtualFleet(tmp_path, devices=2, worker=worker, deadline_seconds=3000)
    fleet.start_all()
    with pytest.raises(DeviceError, match=r"none of the 2 devices can do its task, all for the same reason: .*SIGILL"):
        fleet.finish()
    assert trainings(fleet, Crashing) == 8
    assert fleet.world.now < 100


def test_device_that_crashed_once_takes_part_again(tmp_path: Path) -> None:
    fleet = VirtualFleet(tmp_path, devices=2, rounds=3, worker={"dev-1": CrashingOnce}, quorum=0.5)
    fleet.start_all()
    summary = fleet.finish()
    once = outcome(summary, "dev-1")
    assert (once.contributed, once.failed, once.state, once.needs_attention) == (2, 1, "fit", True)
    assert once.reason == "the worker process was ended by SIGILL"


def test_restarted_coordinator_does_not_ask_an_unfit_device_anew(tmp_path: Path) -> None:
    fleet = VirtualFleet(tmp_path, devices=3, rounds=6, worker={"dev-1": LabelsOutOfRange})
    fleet.start_all({"coordinator": 60})
    summary = fleet.finish()
    assert summary.final is not None
    assert trainings(fleet, LabelsOutOfRange) == 1
    assert outcome(summary, "dev-1").state == "unfit"


def test_device_that_was_started_again_is_trusted_again(tmp_path: Path) -> None:
    """Its owner has mended the cause, and the run that ended for it goes on."""
    worker: dict[str, type[StandIn]] = {"dev-0": LabelsOutOfRange, "dev-1": LabelsOutOfRange}
    fleet = VirtualFleet(tmp_path, devices=2, worker=worker, quorum=1.0)
    fleet.start_all()
    with pytest.raises(DeviceError, match="same reason"):
        fleet.finish()
    worker.clear()
    fleet.start_all()
    summary = fleet.finish()
    assert summary.final is not None
    assert {(entry.contributed, entry.state) for entry in summary.devices} == {(2, "fit")}
    assert any(isinstance(event, DeviceFailed) for event in fleet.events)


class FullDisk(Crashing):
    """It cannot write what it has learned before there is room."""

    full = True

    def _do(self, job: AnyJob) -> AnyResult:
        return super()._do(job) if self.full else StandIn._do(self, job)


def test_run_that_ended_by_what_has_passed_goes_on_with_the_agents_that_have_stayed_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FullDisk, "full", True)
    fleet = VirtualFleet(tmp_path, devices=2, worker={"dev-0": FullDisk, "dev-1": FullDisk})
    fleet.start_all()
    assert isinstance(fleet.until_ended().result, DeviceError)
    assert trainings(fleet, FullDisk) == 8
    fleet.start("coordinator")
    assert isinstance(fleet.until_ended().result, DeviceError)
    assert trainings(fleet, FullDisk) == 10, "each is asked once more"
    monkeypatch.setattr(FullDisk, "full", False)
    fleet.start("coordinator")
    summary = fleet.finish()
    assert summary.final is not None
    assert {entry.state for entry in summary.devices} == {"fit"}
    assert summary.rounds[-1].devices[0].status == summary.rounds[-1].devices[1].status == "contributed"


class Silent(StandIn):
    """It says that it is there, and never delivers."""

    def submit(self, job: AnyJob) -> int:
        return super().submit(job) if not isinstance(job, Train) else 10_000


@EVERY_MODE
def test_run_in_which_nobody_ever_delivers_ends(tmp_path: Path, mode: str) -> None:
    worker = {"dev-0": Silent, "dev-1": Silent}
    fleet = VirtualFleet(tmp_path, devices=2, worker=worker, mode=mode, deadline_seconds=60)
    fleet.start_all()
    with pytest.raises(DeviceError, match=r"none of the 2 devices .* same reason: nothing by the deadline"):
        fleet.finish()
    assert 240 <= fleet.world.now < 300


def test_device_that_can_bear_no_training_still_gets_the_shallowest_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = DeviceProfile(name="tiny", training_memory_mb=1)
    monkeypatch.setattr(virtual, "profile_of", lambda name: tiny if name == "dev-2" else profile_of(name))
    fleet = VirtualFleet(tmp_path, devices=3, rounds=2)
    fleet.start_all()
    summary = fleet.finish()
    assert [outcome(summary, name).contributed for name in ("dev-0", "dev-1")] == [2, 2]
    left_out = outcome(summary, "dev-2")
    assert (left_out.contributed, left_out.state) == (0, "unfit")
    assert "nothing fits" in left_out.reason
    delivered = [event for event in fleet.events if isinstance(event, ModelDelivered)]
    assert {event.device for event in delivered if event.received} == {"dev-0", "dev-1", "dev-2"}
    assert list((tmp_path / "dev-2" / "models").glob("versions/*/*-depth-1.onnx"))
