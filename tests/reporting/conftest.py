from __future__ import annotations

import pytest

from fedlp_edge.reporting.events import (
    AnyEvent,
    DeviceJoined,
    ModelExported,
    RoundFinished,
    RoundStarted,
    RunFinished,
    RunStarted,
    UpdateAccepted,
)
from fedlp_edge.reporting.summary import DeviceRound, FinalModel, RoundSummary, Summary
from fedlp_edge.worker.jobs import ExportedModel


@pytest.fixture
def events() -> list[AnyEvent]:
    """One round of two devices, whole."""
    return [
        RunStarted(time=100.0, run="demo-1", fleet="demo", model="small-cnn", depths=3, parameters=12345, rounds=1),
        DeviceJoined(
            time=101.0, device="a", profile="class-l", samples=200, depth=3, lpr=1.0, explanation="depth 3 of 3"
        ),
        DeviceJoined(
            time=101.5, device="b", profile="class-xs", samples=100, depth=1, lpr=0.5, explanation="depth 1 of 3"
        ),
        RoundStarted(time=102.0, round=1, devices=("a", "b"), deadline_seconds=60.0),
        UpdateAccepted(
            time=103.0, round=1, device="a", layers_sent=("L1",), samples=200, loss=0.25, seconds=1.0, bytes_up=5000
        ),
        RoundFinished(
            time=104.0,
            round=1,
            seconds=2.0,
            accuracy={1: 0.5, 3: 0.75},
            contributors=1,
            lost=("b",),
            bytes_down=9000,
            bytes_up=5000,
        ),
        ModelExported(time=105.0, file="small-cnn-depth-3.onnx", depth=3, max_abs_diff=2e-7, accuracy=0.75),
        RunFinished(time=106.0, rounds=1, accuracy={1: 0.5, 3: 0.75}, model_digest="ab" * 32, seconds=6.0),
    ]


@pytest.fixture
def summary() -> Summary:
    """The same round as it stands in ``summary.json``."""
    devices = (
        DeviceRound(
            id="a",
            profile="class-l",
            depth=3,
            lpr=1.0,
            status="contributed",
            layers_sent=("L1", "L2", "L3", "H3"),
            samples=200,
            loss=0.25,
            seconds=1.0,
            params_down=2000,
            params_up=2000,
            bytes_down=8200,
            bytes_up=8100,
        ),
        DeviceRound(id="b", profile="class-xs", depth=1, lpr=0.5, status="lost", bytes_down=800),
    )
    return Summary(
        run="demo-1",
        fleet="demo",
        model="small-cnn",
        rounds=(
            RoundSummary(
                round=1,
                seconds=2.0,
                accuracy={1: 0.5, 3: 0.75},
                devices=devices,
                coverage={"L1": {"a": 200}, "H1": {}, "H3": {"a": 200}},
            ),
        ),
        final=FinalModel(accuracy={1: 0.5, 3: 0.75}, model_digest="ab" * 32, round=1),
        onnx=(ExportedModel("small-cnn-depth-3.onnx", 3, 2e-7, 0.745),),
    )
