"""The coordinator's service in a fleet in virtual time: how it ends, and what it finds when it starts again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from coordinator.inbox import StopRequested
from fedlp_edge.errors import WorkerError
from fedlp_edge.reporting.events import (
    AnyEvent,
    DeviceUnfit,
    Exporting,
    ModelDelivered,
    ModelRefused,
    RunFinished,
    RunStarted,
    UpdateAccepted,
)
from fedlp_edge.reporting.summary import Summary
from fedlp_edge.transport.base import Received
from fedlp_edge.transport.in_memory import MemoryTransport
from fedlp_edge.wire.messages import Announcement, Decoder, Status, encode
from fedlp_edge.worker.jobs import AnyJob, AnyResult, Evaluate, Export, Exported, Failed, RefusedModel
from fedlp_edge.worker.process import WorkerDied
from tests.coordinator.fleets import facts
from tests.fleets.standin import StandIn
from tests.fleets.virtual import VirtualFleet


def undisturbed(directory: Path) -> Summary:
    fleet = VirtualFleet(directory)
    fleet.start_all()
    return fleet.finish()


def kill_after_the_first_update(fleet: VirtualFleet, harm: Callable[[Path], object]) -> None:
    """Kills the coordinator once it has accepted an update, and harms the bytes that it kept of it."""
    accepted: list[Path] = []

    def watch(event: AnyEvent) -> None:
        if isinstance(event, UpdateAccepted) and not accepted:
            accepted.append(fleet.run / "spool" / f"{event.round:05d}-{event.device}.update")
            fleet.world.at_turn[fleet.world.turns + 1] = strike

    def strike() -> None:
        fleet.world.lives["coordinator"].kill()
        fleet.world.bury("coordinator")
        assert accepted[0].exists()
        harm(accepted[0])

    fleet.on_event = watch


@pytest.mark.parametrize(
    "harm",
    [Path.unlink, lambda path: path.write_bytes(bytes(path.stat().st_size)), lambda path: path.write_bytes(b"")],
    ids=["gone", "zeros", "empty"],
)
def test_update_whose_bytes_a_power_cut_took_is_asked_for_again(tmp_path: Path, harm: Callable[[Path], object]) -> None:
    expected = undisturbed(tmp_path / "undisturbed")
    fleet = VirtualFleet(tmp_path / "cut")
    kill_after_the_first_update(fleet, harm)
    fleet.start_all()
    summary = fleet.finish()

    assert summary.final == expected.final
    assert [entry.coverage for entry in summary.rounds] == [entry.coverage for entry in expected.rounds]
    assert [event.resumed_at for event in fleet.events if isinstance(event, RunStarted)] == [None, 1]


def test_failure_to_evaluate_ends_the_run_with_the_reason(tmp_path: Path) -> None:
    class Blind(StandIn):
        def _do(self, job: AnyJob) -> AnyResult:
            return Failed(kind="data", reason="no test data") if isinstance(job, Evaluate) else super()._do(job)

    fleet = VirtualFleet(tmp_path, worker={"coordinator": Blind})
    fleet.start_all()
    with pytest.raises(WorkerError, match="no test data"):
        fleet.finish()


def test_coordinator_that_is_stopped_says_that_it_is_offline_and_goes_on_later(tmp_path: Path) -> None:
    expected = undisturbed(tmp_path / "undisturbed")
    fleet = VirtualFleet(tmp_path / "stopped")
    fleet.world.at_turn[120] = lambda: fleet.world.lives["coordinator"].inbox.put(StopRequested())
    fleet.start_all()
    fleet.until_ended()
    word = Decoder[Announcement](Announcement, 1 << 16)(fleet.world.hub.retained["fedlp/virtual/coordinator"])

    assert fleet.ended("coordinator") is False
    assert isinstance(word, Announcement)
    assert (word.online, word.state) == (False, "offline")
    fleet.start("coordinator")
    assert fleet.finish().final == expected.final


def test_agent_of_an_older_protocol_is_told_from_the_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fleet = VirtualFleet(tmp_path)
    older = fleet.world.hub.transport("older")
    older.start(lambda _: None)
    report = msgspec.json.decode(encode(Status(device="old", online=True, session="1", facts=facts())))
    for session in ("1", "2"):  # as a service starts it again and again
        message = report | {"protocol": 1, "version": "0.1", "session": session}
        older.publish("fedlp/virtual/device/old", msgspec.json.encode(message), retain=True)
    fleet.start_all()
    fleet.world.after(5.0, lambda: older.publish("fedlp/virtual/device/old", msgspec.json.encode(message), retain=True))
    fleet.finish()

    why = "its agent speaks protocol 1 (version 0.1), this coordinator protocol 7: update the older one"
    assert [line for line in caplog.messages if "protocol" in line] == [f"old cannot take part: {why}"]
    assert [(e.device, e.explanation) for e in fleet.events if isinstance(e, DeviceUnfit)] == [("old", why)]


def slow_link(fleet: VirtualFleet, device: str, seconds: float) -> None:
    """Chunks that are sent to this device alone arrive one after the other, each taking so long."""
    world, free = fleet.world, 0.0
    hand = world.hub._hand

    def held(client: MemoryTransport, message: Received) -> None:
        nonlocal free
        if client.client_id != device or "/repeat/" not in message.topic:
            hand(client, message)
            return
        free = max(world.now, free) + seconds
        world.after(free - world.now, lambda: hand(client, message))

    world.hub._hand = held  # type: ignore[method-assign]


def test_final_model_is_handed_over_however_slowly_it_goes(tmp_path: Path) -> None:
    fleet = VirtualFleet(tmp_path)
    slow_link(fleet, "dev-1", 25.0)
    fleet.start_all()
    summary = fleet.finish()

    assert summary.delivered == {"dev-0": "installed", "dev-1": "installed"}
    assert (tmp_path / "dev-1" / "models" / "current.onnx").exists()
    assert fleet.world.now > 75.0


def test_device_that_gets_nothing_of_its_final_model_is_given_up_and_named(tmp_path: Path) -> None:
    fleet = VirtualFleet(tmp_path)
    slow_link(fleet, "dev-1", 10_000.0)
    fleet.start_all()
    summary = fleet.finish()

    assert summary.delivered["dev-0"] == "installed"
    assert "nothing was heard" in summary.delivered["dev-1"]
    assert [(e.device, e.received) for e in fleet.events if isinstance(e, ModelDelivered)] == [
        ("dev-0", True),
        ("dev-1", False),
    ]


class OneDepthFails(StandIn):
    """The shallower depth cannot be exported."""

    answer: AnyResult = Exported(models=(), refused=(RefusedModel(1, "no such operator"),))

    def _do(self, job: AnyJob) -> AnyResult:
        if not isinstance(job, Export) or 1 not in job.depths:
            return super()._do(job)
        if not isinstance(self.answer, Exported):
            return self.answer
        others = tuple(depth for depth in job.depths if depth != 1)
        made = super()._do(msgspec.structs.replace(job, depths=others))
        assert isinstance(made, Exported)
        return msgspec.structs.replace(self.answer, models=made.models)


class OneDepthFailsOtherwise(OneDepthFails):
    answer = Failed(kind="memory", reason="no such operator")


class OneDepthCrashes(OneDepthFails):
    """... and takes the worker process with it."""

    def submit(self, job: AnyJob) -> int:
        if not (isinstance(job, Export) and 1 in job.depths):
            return super().submit(job)
        self._last += 1
        died = WorkerDied("was ended by SIGSEGV", self._last)
        self._later(0.1, lambda: self._sink(died))
        return self._last


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (OneDepthFails, "no such operator"),
        (OneDepthFailsOtherwise, "no such operator"),
        (OneDepthCrashes, "the worker process was ended by SIGSEGV"),
    ],
)
def test_depth_that_cannot_be_exported_costs_no_other(tmp_path: Path, kind: type[StandIn], reason: str) -> None:
    fleet = VirtualFleet(tmp_path, worker={"coordinator": kind})
    fleet.start_all()
    summary = fleet.finish()

    assert [model.depth for model in summary.onnx] == [2]
    assert summary.refused == (RefusedModel(1, reason),)
    assert summary.final is not None
    assert summary.delivered == {"dev-0": "installed", "dev-1": "installed"}  # the small one too, the nearest depth
    assert [event.reason for event in fleet.events if isinstance(event, ModelRefused)] == [reason]
    assert (tmp_path / "dev-0" / "models" / "current.onnx").resolve().name.endswith("-depth-2.onnx")


def test_coordinator_killed_after_the_end_goes_on_handing_out(tmp_path: Path) -> None:
    fleet = VirtualFleet(tmp_path)
    slow_link(fleet, "dev-1", 5.0)

    def strike() -> None:
        fleet.world.lives["coordinator"].kill()
        fleet.world.bury("coordinator")

    def watch(event: AnyEvent) -> None:
        if isinstance(event, RunFinished) and len([e for e in fleet.events if isinstance(e, RunFinished)]) == 1:
            fleet.world.at_turn[fleet.world.turns + 3] = strike

    fleet.on_event = watch
    fleet.start_all()
    summary = fleet.finish()
    assert (tmp_path / "dev-1" / "models" / "current.onnx").exists()
    assert summary.delivered["dev-1"] == "installed"
    assert summary.handed_over
    assert len([event for event in fleet.events if isinstance(event, Exporting)]) == 1  # its files were still there


def test_models_of_a_finished_run_are_handed_out_again(tmp_path: Path) -> None:
    fleet = VirtualFleet(tmp_path)
    hand = fleet.world.hub._hand
    slow_link(fleet, "dev-1", 10_000.0)
    fleet.start_all()
    assert fleet.finish().delivered["dev-1"] != "installed"

    fleet.world.hub._hand = hand  # type: ignore[method-assign]
    fleet.hand_out = True
    fleet.start("coordinator")
    summary = fleet.finish()
    assert summary.delivered == {"dev-0": "installed", "dev-1": "installed"}
    assert (tmp_path / "dev-1" / "models" / "current.onnx").exists()
    assert fleet.ended("coordinator") is True
