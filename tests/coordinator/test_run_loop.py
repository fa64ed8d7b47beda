"""The coordinator's loop: what broker, worker and clock bring, in order."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from coordinator.background import TaskFinished
from coordinator.coordinator_topic import CoordinatorTopic
from coordinator.inbox import InboxItem, StopRequested
from coordinator.limits import LIMITS
from coordinator.monitoring.state_topic import StateTopic
from coordinator.run_loop import RunLoop
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.errors import BrokerError, StorageError, WorkerError
from fedlp_edge.reporting import events
from fedlp_edge.transport.base import Connected, Disconnected, MessageArriving, Received, Refused
from fedlp_edge.transport.in_memory import MEMORY_LIMITS
from fedlp_edge.wire.messages import Announcement, Assignment, Decoder, Failure, Ready, Task, encode
from fedlp_edge.worker.jobs import Failed
from fedlp_edge.worker.process import WorkerDied, WorkerReply
from tests.coordinator.assembled import TOPICS, AssembledRun, gone, status
from tests.coordinator.fleets import RUN

ONE = RoundSettings(count=1)


def loop_of(run: AssembledRun) -> RunLoop:
    topic = CoordinatorTopic(run.context.messenger, RUN, run.context.clock)
    state = StateTopic(run.context.config.monitoring, run.transport, TOPICS, run.context.clock)
    return RunLoop(run.context, run.parts, run.inbox, run.transport, topic, state, began=0.0)


def go_through(run: AssembledRun, *items: InboxItem) -> RunLoop:
    """Has the loop take some items, and stop."""
    loop = loop_of(run)
    for item in (*items, StopRequested()):
        run.inbox.put(item)
    loop.run()
    return loop


def said(message: object, device: str, branch: str = "up") -> Received:
    return Received(TOPICS.of(branch, device), encode(message), retained=False)  # type: ignore[arg-type]


def test_stopped_run_is_not_finished_and_says_where_it_goes_on(tmp_path: Path) -> None:
    run = AssembledRun(tmp_path, rounds=ONE)
    loop = go_through(run)
    assert (loop.finished, loop.round) == (False, 1)
    (started,) = [event for event in run.events if isinstance(event, events.RunStarted)]
    assert (started.run, started.depths, started.rounds, started.resumed_at) == (RUN, 2, 1, None)
    word = Decoder[Announcement](Announcement, 1 << 16)(run.hub.retained[TOPICS.coordinator])
    assert isinstance(word, Announcement)
    assert (word.online, word.state) == (True, "waiting")


def test_device_goes_from_its_report_to_its_task(tmp_path: Path) -> None:
    run = AssembledRun(tmp_path, rounds=ONE)
    ready = Ready(run=RUN, device="a", session="s", depth=2)
    go_through(run, said(status("a"), "a", "device"), said(ready, "a"))
    assert [type(message) for message in run.heard()] == [Assignment, Task]


def test_clocks_are_looked_at_once_for_all_messages_that_wait_but_for_a_few_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = AssembledRun(tmp_path, rounds=ONE)
    looks: list[float] = []
    monkeypatch.setattr(run.parts.membership, "tick", lambda: looks.append(run.now))
    go_through(run, *[MessageArriving()] * (2 * LIMITS.items_between_ticks + 1))
    assert len(looks) == 2


def test_device_that_is_gone_takes_part_no_more(tmp_path: Path) -> None:
    run = AssembledRun(tmp_path, rounds=ONE)
    go_through(run, said(status("a"), "a", "device"), said(gone("a"), "a", "device"))
    assert run.parts.membership.all() == []
    assert "DeviceLeft" in run.kinds()


def test_status_that_somebody_removes_from_the_broker_is_no_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = AssembledRun(tmp_path, rounds=ONE)
    go_through(run, said(status("a"), "a", "device"), Received(TOPICS.of("device", "a"), b"", retained=False))
    assert [member.device for member in run.parts.membership.all()] == ["a"]
    assert "malformed" not in caplog.text


def test_message_in_the_name_of_another_device_is_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = AssembledRun(tmp_path, rounds=ONE)
    with caplog.at_level(logging.WARNING, "fedlp.coordinator"):
        go_through(run, said(status("a"), "b", "device"), Received(TOPICS.of("up", "c"), b"{", retained=False))
    assert run.parts.membership.all() == []
    assert "a message in the name of 'a' came from 'b'" in caplog.text
    assert "malformed control message" in caplog.text


def test_failure_of_a_device_is_told_once_for_its_present_life(tmp_path: Path) -> None:
    run = AssembledRun(tmp_path, rounds=ONE)
    failed = Failure(run=RUN, device="a", session="s", kind="data", reason="no samples")
    earlier = Failure(run=RUN, device="a", session="earlier", kind="data", reason="no samples")
    go_through(run, said(status("a"), "a", "device"), said(earlier, "a"), said(failed, "a"))
    told = [(e.device, e.reason) for e in run.events if isinstance(e, events.DeviceFailed)]
    assert told == [("a", "no samples")]
    assert run.parts.rounds.fitness("a").lasting


def test_lost_broker_is_told_and_another_coordinator_looked_for_afterwards(tmp_path: Path) -> None:
    run = AssembledRun(tmp_path, rounds=ONE)
    go_through(run, Disconnected("it went away"), Connected(MEMORY_LIMITS))
    assert run.kinds()[-2:] == ["BrokerDisconnected", "BrokerReconnected"]


@pytest.mark.parametrize(
    ("item", "error", "reason"),
    [
        (WorkerDied("was killed by SIGKILL", None), WorkerError, "the process that evaluates and exports ended: "),
        (WorkerReply(1, Failed(kind="data", reason="no test data")), WorkerError, "no test data"),
        (TaskFinished(lambda: None, StorageError("the disk is full")), StorageError, "the disk is full"),
        (Refused(TOPICS.of("up", "+"), "Not authorized"), BrokerError, "the subscription to .*: Not authorized"),
    ],
    ids=["worker-died", "job-failed", "disk", "deaf"],
)
def test_what_no_run_survives_ends_it(tmp_path: Path, item: InboxItem, error: type[Exception], reason: str) -> None:
    run = AssembledRun(tmp_path, rounds=ONE)
    with pytest.raises(error, match=reason):
        go_through(run, item)


def test_what_the_broker_refuses_is_told_once_and_its_own_topic_need_not_be_heard(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    message = Refused(TOPICS.of("down", "a"), "Not authorized", token=10**9)
    go_through(AssembledRun(tmp_path, rounds=ONE), Refused(TOPICS.coordinator, "Not authorized"), message, message)
    remedy = "Not authorized; check its access rules for the coordinator's login"
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        f"the broker refuses the subscription to {TOPICS.coordinator}: {remedy}",
        f"the broker refuses {TOPICS.of('down', 'a')}: {remedy}",
    ]
