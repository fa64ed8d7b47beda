"""One round from the opening to the commit, with devices that upload by hand."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from fedlp_edge.core.rounds.fitness import DeviceFault
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.errors import PeerError
from fedlp_edge.reporting import events
from fedlp_edge.wire.messages import Failure, Grant, Receipt, Task
from tests.coordinator.assembled import AssembledRun, status
from tests.coordinator.fleets import RUN, update

DELTAS = {"L1": 1.0, "L2": 2.0, "H2": 3.0}


def run_of(directory: Path, *devices: str, **rounds: object) -> AssembledRun:
    """A run whose first round is open, with these devices."""
    settings = RoundSettings(**{"count": 2, "min_devices": len(devices), "rejoin_seconds": 0.0} | rounds)  # type: ignore[arg-type]
    run = AssembledRun(directory, rounds=settings)
    run.join(*map(status, devices))
    return run


def receipts(run: AssembledRun) -> list[tuple[str, str, str]]:
    return [(m.device, m.state, m.reason) for m in run.heard() if isinstance(m, Receipt)]


def test_round_goes_from_tasks_to_the_next_model(tmp_path: Path) -> None:
    run = run_of(tmp_path, "a", "b")
    tasks = [(message.device, message.round, message.depth) for message in run.heard() if isinstance(message, Task)]
    assert sorted(tasks) == [("a", 1, 2), ("b", 1, 2)]
    run.upload(*update("a", DELTAS))
    assert receipts(run) == [("a", "accepted", "")]
    assert not run.parts.rounds.awaits("a", 1)
    run.upload(*update("b", DELTAS | {"L1": 3.0}))
    run.settle()
    assert run.parts.commit.history.committed == 1
    assert run.parts.commit.model.weights["blocks.0.w"].tolist() == [3.0, 3.0]  # 1, and the mean of 1 and 3
    assert run.parts.rounds.round == 2
    assert run.kinds()[-1] == "RoundStarted"
    assert [(e.device, e.layers_sent) for e in run.events if isinstance(e, events.UpdateAccepted)] == [
        ("a", ("L1", "L2", "H2")),
        ("b", ("L1", "L2", "H2")),
    ]


def test_offer_is_granted_and_its_repeat_after_the_receipt_is_answered(tmp_path: Path) -> None:
    run = run_of(tmp_path, "a", "b")
    run.heard()
    offer, blob = update("a", DELTAS)
    run.parts.rounds.offered(offer)
    (grant,) = run.heard()
    assert isinstance(grant, Grant)
    assert (grant.device, grant.digest) == ("a", offer.digest)
    run.upload(offer, blob)
    run.heard()
    run.parts.rounds.offered(offer)
    assert receipts(run) == [("a", "accepted", "")]


def test_offer_of_another_round_or_run_is_stale(tmp_path: Path) -> None:
    run = run_of(tmp_path, "a")
    run.heard()
    offer, _ = update("a", DELTAS)
    run.parts.rounds.offered(msgspec.structs.replace(offer, round=7))
    run.parts.rounds.offered(msgspec.structs.replace(offer, run="another"))
    assert receipts(run) == [("a", "stale", "that round is over")] * 2


def test_refused_update_is_no_contribution_and_says_why(tmp_path: Path) -> None:
    run = run_of(tmp_path, "a", "b")
    run.heard()
    run.upload(*update("a", DELTAS | {"L1": float("nan")}))
    ((device, state, reason),) = receipts(run)
    assert (device, state) == ("a", "rejected")
    assert "finite" in reason
    (rejected,) = [event for event in run.events if isinstance(event, events.UpdateRejected)]
    assert (rejected.device, rejected.reason) == ("a", reason)
    assert not list(run.context.directory.spool.glob("*a*"))
    run.upload(*update("b", DELTAS))
    run.settle()
    assert run.parts.commit.history.last is not None
    statuses = {entry.id: entry.status for entry in run.parts.commit.history.last.devices}
    assert statuses == {"a": "rejected", "b": "contributed"}


def test_device_that_gives_up_is_not_waited_for(tmp_path: Path) -> None:
    run = run_of(tmp_path, "a", "b")
    run.upload(*update("b", DELTAS))
    failed = Failure(run=RUN, device="a", session="s", round=1, kind="worker", reason="it crashed")
    run.parts.rounds.failed(failed, DeviceFault.WORKER)
    run.settle()
    assert run.parts.commit.history.last is not None
    statuses = {entry.id: entry.status for entry in run.parts.commit.history.last.devices}
    assert statuses == {"a": "failed", "b": "contributed"}


def test_round_closes_at_its_deadline_with_a_quorum(tmp_path: Path) -> None:
    run = run_of(tmp_path, "a", "b", deadline_seconds=60.0)
    run.upload(*update("a", DELTAS))
    run.now = 59.0
    run.parts.rounds.tick()
    run.settle()
    assert run.parts.rounds.round == 1
    assert run.parts.rounds.next_wakeup() == 60.0
    run.now = 60.0
    run.parts.rounds.tick()
    run.settle()
    assert run.parts.commit.history.committed == 1


def test_time_to_wake_is_told_again_without_asking_and_is_new_after_every_event(tmp_path: Path) -> None:
    run = run_of(tmp_path, "a", "b", deadline_seconds=60.0)
    rounds = run.parts.rounds
    assert (rounds.next_wakeup(), rounds.next_wakeup()) == (60.0, 60.0)
    run.now = 5.0
    run.upload(*update("a", DELTAS))
    run.upload(*update("b", DELTAS))
    assert rounds.next_wakeup() is None  # the round is closing
    run.settle()
    assert (rounds.round, rounds.next_wakeup()) == (2, 65.0)


def test_open_round_goes_on_with_the_updates_that_are_here(tmp_path: Path) -> None:
    before = run_of(tmp_path, "a", "b")
    before.upload(*update("a", DELTAS))
    after = AssembledRun(tmp_path, rounds=RoundSettings(count=2, min_devices=2, rejoin_seconds=0.0))
    after.parts.rounds.resume()
    assert (after.parts.rounds.round, after.parts.rounds.awaits("a", 1)) == (1, False)
    assert after.parts.rounds.awaits("b", 1)
    after.upload(*update("b", DELTAS))
    after.settle()
    assert after.parts.commit.history.committed == 1


def test_bytes_that_are_no_chunk_are_the_fault_of_who_sent_them(tmp_path: Path) -> None:
    run = run_of(tmp_path, "a")
    with pytest.raises(PeerError):
        run.parts.rounds.chunk("a", b"?")
