"""The coordinator's service in a fleet in virtual time: how it ends, and what it finds when it starts again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.service import Stop
from fedlp_edge.errors import WorkerError
from fedlp_edge.reporting.events import AnyEvent, RunStarted, UpdateAccepted
from fedlp_edge.reporting.summary import Summary
from fedlp_edge.wire.messages import Announcement, decoder
from fedlp_edge.worker.jobs import AnyJob, AnyResult, Evaluate, Failed
from tests.system.standin import StandIn
from tests.system.virtual import VirtualFleet


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
    fleet.world.at_turn[120] = lambda: fleet.world.lives["coordinator"].inbox.put(Stop())
    fleet.start_all()
    fleet.until_ended()
    word = decoder(Announcement, 1 << 16)(fleet.world.hub.retained["fedlp/virtual/coordinator"])

    assert fleet.ended("coordinator") is False
    assert isinstance(word, Announcement)
    assert (word.online, word.state) == (False, "offline")
    fleet.start("coordinator")
    assert fleet.finish().final == expected.final
