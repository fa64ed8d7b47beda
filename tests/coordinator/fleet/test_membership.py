"""Devices come, are told what they are to do, fail, change, and go."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from fedlp_edge.core.device_data import DataFacts, InputFacts
from fedlp_edge.core.metrics.serving_report import ServingReport
from fedlp_edge.core.rounds.fitness import DeviceFault
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.reporting import events
from fedlp_edge.wire.messages import Assignment, AssignmentRefused, Failure, Ready, Registered, Task
from tests.coordinator.assembled import AssembledRun, gone, status
from tests.coordinator.fleets import RUN

SMALL = 50_000_000
"""Bytes that suffice for depth 1 alone."""


def run_of(directory: Path, devices: int = 1) -> AssembledRun:
    return AssembledRun(directory, rounds=RoundSettings(count=1, min_devices=devices))


def failure(kind: str, session: str = "s") -> Failure:
    return Failure(run=RUN, device="a", session=session, kind=kind, reason="no memory")  # type: ignore[arg-type]


def test_device_that_the_broker_alone_has_kept_is_not_heard_of_before_it_answers(tmp_path: Path) -> None:
    members = run_of(tmp_path).parts.membership
    members.reported(status("kept"), kept=True)
    members.reported(status("back"), kept=True)
    members.reported(status("unfit", memory=1000), kept=True)
    members.reported(status("here"))
    assert members.ready(Ready(run=RUN, device="back", session="s", depth=2)) is not None
    assert [member.device for member in members.all()] == ["kept", "back", "unfit", "here"]
    assert [member.device for member in members.heard_of()] == ["back", "unfit", "here"]
    members.reported(status("kept"))
    assert len(members.heard_of()) == 4


def test_device_is_told_the_deepest_submodel_that_it_can_bear(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    run.parts.membership.reported(status("a"))
    run.parts.membership.reported(status("b", memory=SMALL))
    told = [(message.device, message.depth) for message in run.heard() if isinstance(message, Assignment)]
    assert told == [("a", 2), ("b", 1)]
    joined = [(e.device, e.depth) for e in run.events if isinstance(e, events.DeviceJoined)]
    assert joined == [("a", 2), ("b", 1)]


def test_device_whose_pixels_are_stored_otherwise_than_elsewhere_is_told(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    for device, scale in (("a", 1.0), ("b", 1.0), ("c", 0.25)):
        facts = DataFacts(sample_shape=(1, 2, 2), labels=2, highest=1, inputs=InputFacts(scale=scale))
        run.parts.membership.reported(status(device, data=facts))
    told = {message.device: message.explanation for message in run.heard() if isinstance(message, Assignment)}
    assert "values are multiplied by 0.25 here and by 1 elsewhere: bytes count as pixels" in told["c"]
    assert "multiplied" not in told["a"] + told["b"]


def test_device_is_answered_before_the_fleet_has_agreed_on_its_data(tmp_path: Path) -> None:
    run = run_of(tmp_path, devices=2)
    named = DataFacts(sample_shape=(1, 2, 2), labels=2, highest=1, classes=("nut", "bolt"))
    run.parts.membership.reported(status("a", data=named))
    run.parts.membership.reported(status("a", data=named))
    waiting = Registered(run=RUN, device="a", reason="the fleet is agreeing on its data")
    assert run.heard() == [waiting, waiting]


def test_ready_device_is_told_nothing_again_until_it_changes(tmp_path: Path) -> None:
    run = run_of(tmp_path, devices=2)
    run.join(status("a"))
    run.heard()
    run.parts.membership.reported(status("a"))
    assert run.heard() == []
    run.parts.membership.reported(status("a", session="later"))
    assert [type(message) for message in run.heard()] == [Assignment]


def test_device_that_never_answers_is_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = run_of(tmp_path)
    members = run.parts.membership
    members.reported(status("a"))
    for seconds in (60.0, 119.0, 121.0, 300.0):
        run.now = seconds
        members.reported(status("a"))
        members.tick()
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert line.startswith("a was told its depth 121 s ago and has not answered")
    assert "fleet/down/a" in line
    assert "fleet/up/a" in line


@pytest.mark.parametrize("how", ["is ready", "has failed", "was away", "was started again"])
def test_device_that_answers_is_not_named(tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str) -> None:
    run = run_of(tmp_path, devices=2)
    members = run.parts.membership
    members.reported(status("a"))
    run.now = 100.0
    if how == "is ready":
        members.ready(Ready(run=RUN, device="a", session="s", depth=1))
    elif how == "has failed":
        members.failed(failure("worker"))
    elif how == "was away":
        members.left(gone("a"))
    members.reported(status("a", session="later" if how == "was started again" else "s"))
    run.now = 130.0
    members.tick()
    assert "was told its depth" not in caplog.text


def test_round_opens_once_a_device_holds_what_it_was_told_to_hold(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    members = run.parts.membership
    members.reported(status("a"))
    assert members.ready(Ready(run=RUN, device="a", session="s", depth=1)) is None
    assert members.ready(Ready(run=RUN, device="a", session="earlier", depth=2)) is None
    member = members.ready(Ready(run=RUN, device="a", session="s", depth=2))
    assert member is not None
    members.join(member)
    assert [message.device for message in run.heard() if isinstance(message, Task)] == ["a"]


def test_what_a_model_answers_on_a_device_is_told_once(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    report = ServingReport(file="m.onnx", answers=3, labels={"nut": 3})
    serving = msgspec.structs.replace(status("a"), serving=report)
    run.parts.membership.reported(serving)
    run.parts.membership.reported(serving)
    told = [event for event in run.events if isinstance(event, events.DeviceServing)]
    assert [(event.device, event.report) for event in told] == [("a", report)]


def test_device_that_can_bear_nothing_is_refused_and_why(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    run.parts.membership.reported(status("a", memory=1000))
    (refused,) = run.heard()
    assert isinstance(refused, AssignmentRefused)
    assert refused.reason == "nothing fits: depth 1 needs 7.8 MB for training, 0.0 MB are free"
    assert "DeviceJoined" not in run.kinds()


def test_device_whose_samples_do_not_fit_is_refused_until_they_do(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    wrong = DataFacts(sample_shape=(3,), labels=2, highest=1)
    run.parts.membership.reported(status("a", data=wrong))
    (refused,) = run.heard()
    assert isinstance(refused, AssignmentRefused)
    assert run.parts.rounds.fitness("a").lasting
    right = DataFacts(sample_shape=(1, 2, 2), labels=2, highest=1)
    run.parts.membership.reported(status("a", revision=1, data=right))
    assert [type(message) for message in run.heard()] == [Assignment]
    assert not run.parts.rounds.fitness("a").lasting


def test_device_that_cannot_take_part_stays_present_when_it_measures_itself_anew(tmp_path: Path) -> None:
    run = run_of(tmp_path, devices=2)
    wrong = DataFacts(sample_shape=(3,), labels=2, highest=1)
    members = run.parts.membership
    members.reported(status("a", data=wrong))
    members.reported(status("a", revision=1, data=wrong, memory=SMALL))
    members.reported(status("b"))
    ready = members.ready(Ready(run=RUN, device="b", session="s", depth=2))
    assert ready is not None
    members.join(ready)
    assert [message.device for message in run.heard() if isinstance(message, Task)] == ["b"]


def test_device_that_ran_out_of_memory_is_told_to_hold_less(tmp_path: Path) -> None:
    run = run_of(tmp_path, devices=2)
    run.join(status("a"))
    run.heard()
    assert run.parts.membership.failed(failure("memory")) is None
    assert [message.depth for message in run.heard() if isinstance(message, Assignment)] == [1]
    assert run.parts.membership.failed(failure("data")) is DeviceFault.DATA


@pytest.mark.parametrize(("session", "left"), [("s", True), ("earlier", False)])
def test_device_leaves_with_its_present_life_alone(tmp_path: Path, session: str, *, left: bool) -> None:
    run = run_of(tmp_path)
    run.parts.membership.reported(status("a"))
    assert run.parts.membership.is_present(failure("data", session)) is left
    assert run.parts.membership.left(gone("a", session)) is left
    assert run.parts.membership.knows("a") is not left
    assert ("DeviceLeft" in run.kinds()) is left
