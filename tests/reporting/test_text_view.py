from __future__ import annotations

import pytest

from fedlp_edge.core.device_scores import DeviceScores
from fedlp_edge.reporting.events import (
    AllDevicesUnfit,
    AnyEvent,
    BrokerDisconnected,
    BrokerReconnected,
    DeviceFailed,
    DeviceLeft,
    DeviceSetAside,
    DeviceUnfit,
    ModelDelivered,
    ModelRefused,
    RoundFailed,
    RoundFinished,
    RoundStarted,
    RunFinished,
    RunStarted,
    RunStopped,
    UpdateRejected,
    WaitingForBroker,
    WaitingForDevices,
)
from fedlp_edge.reporting.progress import RunProgress
from fedlp_edge.reporting.text_view import line_for, listed


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            RunStarted(time=1, run="r", fleet="f", model="cnn", depths=3, parameters=1234, rounds=9, resumed_at=4),
            "run r goes on at round 4: cnn, 1,234 parameters, 3 depths, 9 rounds",
        ),
        (
            RunStarted(time=1, run="r", fleet="f", model="cnn", depths=3, parameters=5, rounds=9, answer="mean"),
            "run r starts: cnn, 5 parameters, 3 depths, 9 rounds; models answer with the mean of their exits",
        ),
        (DeviceLeft(time=1, device="a"), "device a left"),
        (DeviceUnfit(time=1, device="a", explanation="no labels"), "device a cannot take part: no labels"),
        (
            DeviceSetAside(time=1, device="a", failures=4, again=12, reason="it died"),
            "device a is set aside after 4 failures in a row, until round 12: it died",
        ),
        (
            AllDevicesUnfit(time=1, explanation="nobody is fit", seconds=20),
            "nobody is fit; the run ends in 20.0 s unless that changes",
        ),
        (
            UpdateRejected(time=1, round=2, device="a", code="digest", reason="damaged"),
            "round 2: update of a refused (digest): damaged",
        ),
        (DeviceFailed(time=1, round=2, device="a", reason="no memory"), "round 2: device a failed: no memory"),
        (DeviceFailed(time=1, round=None, device="a", reason="no memory"), "device a failed: no memory"),
        (
            RoundFailed(time=1, round=2, contributors=1, quorum=3),
            "round 2 asks again: 1 update so far, 3 needed",
        ),
        (WaitingForDevices(time=1, present=1, wanted=2), "waiting for devices: 1 of 2 are there"),
        (
            WaitingForDevices(time=1, present=0, wanted=8, preparing=5),
            "waiting for devices: 5 of 8 are there, and 5 of them are getting ready",
        ),
        (
            WaitingForDevices(time=1, present=2, wanted=2, preparing=1),
            "waiting for devices: 3 of 3 are there, and 1 of them is getting ready",
        ),
        (
            WaitingForDevices(time=1, present=0, wanted=1, unable=1, preparing=1),
            "waiting for 1 to get ready; 1 that is there cannot take part now",
        ),
        (
            WaitingForDevices(time=1, present=0, wanted=1, unable=1),
            "waiting for 1 more; 1 that is there cannot take part now",
        ),
        (
            WaitingForDevices(time=1, present=1, wanted=4, unable=2),
            "waiting for 3 more; 2 that are there cannot take part now",
        ),
        (BrokerDisconnected(time=1, reason="closed"), "broker lost: closed"),
        (BrokerReconnected(time=1), "broker is back"),
        (
            WaitingForBroker(time=1, url="mqtt://b"),
            "waiting for the broker at mqtt://b; the log says why it is not there",
        ),
        (ModelRefused(time=1, depth=2, reason="no operator"), "depth 2 has no ONNX file: no operator"),
        (
            ModelDelivered(time=1, device="a", received=False, reason="the disk is full"),
            "device a has no final model: the disk is full",
        ),
        (ModelDelivered(time=1, device="a", received=True), None),
        (RoundStarted(time=1, round=1, devices=("a",), deadline_seconds=9), None),
        (
            RunStopped(time=1, round=3, reason="signal"),
            "run stopped in round 3; the same command goes on from there",
        ),
        (
            RunStopped(time=1, round=3, reason="error", detail="the disk is full"),
            "run stopped in round 3: the disk is full; once that is mended, the same command goes on",
        ),
    ],
)
def test_each_event_of_note_has_one_line(event: AnyEvent, line: str | None) -> None:
    assert line_for(event, RunProgress()) == line


def test_round_says_what_is_odd_about_its_accuracy() -> None:
    finished = RoundFinished(
        time=1,
        round=2,
        seconds=75.0,
        accuracy={2: 0.5, 1: 0.25},
        contributors=3,
        lost=(),
        bytes_down=2000,
        bytes_up=10,
        warning="at chance",
    )
    progress = RunProgress()
    progress.rounds = 5

    assert line_for(finished, progress) == (
        "round 2/5: 1:15, 3 devices; accuracy depth 1: 25.0 %, depth 2: 50.0 %; 2.0 kB down, 10 B up; at chance"
    )


def test_names_eight_devices_and_counts_the_rest() -> None:
    assert listed("abcdefgh") == "a, b, c, d, e, f, g, h"
    assert listed("abcdefghij") == "a, b, c, d, e, f, g, h and 2 more"


def test_names_the_metric_that_the_run_is_judged_by() -> None:
    progress = RunProgress(rounds=5, metric="rmse")
    metrics = {1: {"rmse": 2.5, "loss": 0.25}, 2: {"rmse": 1.75, "loss": 0.125}}
    scores = {
        1: DeviceScores(devices=2, samples=9, mean={"mae": 1, "rmse": 3}, spread={"rmse": 0.5}, worst={"rmse": 4})
    }
    ended = RoundFinished(
        time=1, round=1, seconds=1, accuracy={}, metrics=metrics, on_devices=scores, contributors=2, lost=(),
        bytes_down=0, bytes_up=0,
    )  # fmt: skip
    finished = RunFinished(time=1, rounds=5, accuracy={}, metrics=metrics, model_digest="ab", seconds=1, best=3)
    assert line_for(ended, progress) == (
        "round 1/5: 1.0 s, 2 devices; RMSE depth 1: 2.5, depth 2: 1.75; on devices, before it, "
        "depth 1: RMSE 3 ± 0.5 (worst tenth 4); 0 B down, 0 B up"
    )
    assert line_for(finished, progress) == (
        "run finished after 5 rounds: the model of round 3, the best one, RMSE depth 1: 2.5, depth 2: 1.75"
    )
