"""Simulated devices judge models on what they hold out, with or without central test data."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest

from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.core.settings import EvaluationSettings
from fedlp_edge.reporting.summary import Summary
from fedlp_edge.simulation import Experiment, LocalEngine, simulate
from fedlp_edge.simulation.experiment import SimulatedData
from tests.simulation.conftest import experiment

HOLDOUT = EvaluationSettings(holdout=0.3)
DATA = SimulatedData(train="digits", evaluate="digits", partition="iid", limit=150)


def judged(**changes: object) -> Experiment:
    """Devices with enough samples of all classes that what they hold out says something."""
    return experiment(data=DATA, evaluation=HOLDOUT, rounds=RoundSettings(count=4, devices_per_round=5), **changes)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, engine: LocalEngine) -> Summary:
    """A run that is judged by both."""
    return simulate(judged(), tmp_path_factory.mktemp("both"), engine=engine)


def test_devices_and_central_data_agree_within_the_spread_of_the_devices(both: Summary) -> None:
    assert both.final is not None
    assert set(both.final.on_devices) == set(both.final.accuracy) == {1, 2, 3}
    assert sum(scores.devices for scores in both.final.on_devices.values()) == 6
    for depth, scores in both.final.on_devices.items():
        # Two standard errors of a share that so many held-out samples tell.
        error = 2 * math.sqrt(0.25 / scores.samples)
        assert abs(scores.mean["accuracy"] - both.final.accuracy[depth]) < error
        assert scores.worst["accuracy"] <= scores.mean["accuracy"] + 1e-9
        assert scores.spread["accuracy"] < 0.3


def test_devices_of_a_round_judge_the_model_that_they_start_from(both: Summary) -> None:
    first, last = both.rounds[0], both.rounds[-1]
    assert sum(scores.devices for scores in first.on_devices.values()) == len(first.devices)
    assert max(scores.mean["accuracy"] for scores in first.on_devices.values()) < 0.3  # a model that has not learned
    assert max(s.mean["accuracy"] for s in last.on_devices.values()) > 0.3
    assert {entry.not_reporting for entry in both.rounds} == {0}


def test_central_data_change_neither_the_model_nor_what_devices_measure(
    both: Summary, tmp_path: Path, engine: LocalEngine
) -> None:
    settings = msgspec.structs.replace(judged(), data=msgspec.structs.replace(DATA, evaluate=""))
    alone = simulate(settings, tmp_path, engine=engine)
    assert alone.final is not None
    assert both.final is not None
    assert alone.final.model_digest == both.final.model_digest
    assert alone.final.on_devices == both.final.on_devices
    assert [entry.on_devices for entry in alone.rounds] == [entry.on_devices for entry in both.rounds]
    assert alone.final.accuracy == {}
