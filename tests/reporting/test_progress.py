from __future__ import annotations

import pytest

from fedlp_edge.reporting.events import (
    AnyEvent,
    BrokerDisconnected,
    BrokerReconnected,
    DeviceFailed,
    DeviceJoined,
    DeviceLeft,
    DeviceUnfit,
    Exporting,
    RoundFailed,
    RunStarted,
    RunStopped,
    UpdateRejected,
    WaitingForDevices,
)
from fedlp_edge.reporting.progress import RunProgress
from fedlp_edge.reporting.text_view import line_for


@pytest.fixture
def progress(events: list[AnyEvent]) -> RunProgress:
    progress = RunProgress()
    for event in events[:5]:
        progress.apply(event)
    return progress


def test_follows_a_round(events: list[AnyEvent], progress: RunProgress) -> None:
    assert (progress.run, progress.model, progress.depths, progress.phase) == ("demo-1", "small-cnn", 3, "round")
    assert [(d.id, d.state, d.depth, d.loss, d.bytes_up) for d in progress.devices.values()] == [
        ("a", "delivered", 3, 0.25, 5000),
        ("b", "training", 1, None, 0),
    ]

    for event in events[5:]:
        progress.apply(event)

    assert progress.devices["b"].state == "lost"
    assert progress.values == {1: [0.5], 3: [0.75]}
    assert (progress.bytes_down, progress.bytes_up, progress.finished_rounds) == (9000, 5000, 1)
    assert progress.phase == "finished"
    assert [model.depth for model in progress.exported] == [3]
    assert progress.latest - progress.started == 6.0


@pytest.mark.parametrize(
    ("event", "state", "trouble"),
    [
        (DeviceLeft(time=1.0, device="b"), "away", ""),
        (DeviceUnfit(time=1.0, device="b", explanation="nothing fits"), "unfit", "b: nothing fits"),
        (DeviceFailed(time=1.0, round=1, device="b", reason="no memory"), "failed", "b: no memory"),
        (
            UpdateRejected(time=1.0, round=1, device="b", code="digest", reason="wrong digest"),
            "rejected",
            "update of b refused (digest): wrong digest",
        ),
    ],
)
def test_marks_a_device_in_trouble(progress: RunProgress, event: AnyEvent, state: str, trouble: str) -> None:
    progress.apply(event)

    assert progress.devices["b"].state == state
    assert progress.trouble == trouble


def test_takes_a_device_back(progress: RunProgress) -> None:
    progress.apply(DeviceLeft(time=1.0, device="b"))
    progress.apply(DeviceJoined(time=2.0, device="b", profile="x", samples=1, depth=2, lpr=1.0, explanation=""))

    assert (progress.devices["b"].state, progress.devices["b"].depth) == ("ready", 2)


@pytest.mark.parametrize(
    ("event", "phase", "note"),
    [
        (WaitingForDevices(time=1.0, present=1, wanted=3), "waiting", "waiting for devices: 1 of 3 are there"),
        (Exporting(time=1.0, depths=(2,)), "exporting", "exporting an ONNX model and checking it against PyTorch"),
        (Exporting(time=1.0, depths=(1, 2)), "exporting", "exporting 2 ONNX models and checking them against PyTorch"),
        (RunStopped(time=1.0, round=1, reason="signal"), "stopped", "stopped in round 1"),
        (RunStopped(time=1.0, round=1, reason="error", detail="disk full"), "stopped", "stopped in round 1: disk full"),
    ],
)
def test_says_what_goes_on(progress: RunProgress, event: AnyEvent, phase: str, note: str) -> None:
    progress.apply(event)

    assert (progress.phase, progress.note) == (phase, note)


def test_names_no_round_after_the_last_one() -> None:
    start = RunStarted(time=1.0, run="r", fleet="f", model="cnn", depths=2, parameters=9, rounds=10, resumed_at=11)
    stop = RunStopped(time=3.0, round=11, reason="signal")
    progress = RunProgress()

    progress.apply(start)
    assert progress.note == "going on after round 10, the last"
    assert line_for(start, progress) == "run r goes on after round 10, the last: cnn, 9 parameters, 2 depths, 10 rounds"
    progress.apply(stop)
    assert progress.note == "stopped after round 10, the last"

    for event in (start, Exporting(time=2.0, depths=(1, 2)), stop):
        progress.apply(event)
    where = "stopped after round 10, the last, while its models were exported and handed out"
    assert progress.note == where
    assert line_for(stop, progress) == f"run {where}; the same command goes on from there"

    progress.apply(start)
    progress.apply(RunStopped(time=4.0, round=6, reason="signal"))
    assert progress.note == "stopped in round 6"


def test_forgets_trouble_with_the_broker_when_it_is_back(progress: RunProgress) -> None:
    progress.apply(BrokerDisconnected(time=1.0, reason="connection refused"))
    assert progress.trouble == "broker lost: connection refused"

    progress.apply(BrokerReconnected(time=2.0))
    assert progress.trouble == ""


def test_says_that_a_round_is_tried_again(progress: RunProgress) -> None:
    progress.apply(RoundFailed(time=1.0, round=1, contributors=1, quorum=2))

    assert progress.trouble == "round 1 asks again: 1 update, 2 needed"


def test_keeps_accuracy_when_a_run_goes_on(events: list[AnyEvent]) -> None:
    progress = RunProgress()
    for event in events[:6]:
        progress.apply(event)

    progress.apply(
        RunStarted(time=200.0, run="demo-1", fleet="demo", model="m", depths=3, parameters=1, rounds=3, resumed_at=2)
    )

    assert progress.values == {1: [0.5], 3: [0.75]}
    assert (progress.finished_rounds, progress.rounds, progress.note) == (1, 3, "going on at round 2")
    assert progress.started == 200.0
    assert {device.state for device in progress.devices.values()} == {"away"}


def test_counts_committed_rounds_that_it_did_not_see() -> None:
    progress = RunProgress()
    progress.apply(
        RunStarted(time=1.0, run="demo-1", fleet="demo", model="m", depths=3, parameters=1, rounds=9, resumed_at=7)
    )
    assert (progress.finished_rounds, progress.round) == (6, 6)


def test_clock_that_is_set_during_a_run_does_not_count_as_time_of_the_run() -> None:
    progress = RunProgress()
    for moment in (20.0, 50.0, 1.8e9, 1.8e9 + 10.0, 1.7e9):
        progress.apply(BrokerReconnected(time=moment))
    assert progress.latest - progress.started == 40.0
