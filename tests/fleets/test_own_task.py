"""A task of the user's own, in a fleet of processes, from the first report to an exported file that is used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedlp_edge.core.settings import EvaluationSettings, ModelSettings
from fedlp_edge.learning.export.inference import Classifier
from fedlp_edge.reporting.events import RoundFinished
from fedlp_edge.simulation import LocalEngine, simulate
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from tests.fleets.fleet import Fleet
from tests.simulation.conftest import experiment

TASK = "tests.fleets.ordinal:make"

JUDGED = """
[data]
evaluate = "digits"

[evaluation]
holdout = 0.1
metric = "mean_distance"
better = "lower"

[export]
model = "best"
depths = "full"
"""


def test_a_task_of_the_users_own_is_judged_exported_and_answers(tmp_path: Path, mosquitto: MosquittoBroker) -> None:
    with Fleet(tmp_path, mosquitto.url, "ordinal", devices=2, rounds=3, task=TASK, more=JUDGED) as fleet:
        fleet.start_all()
        summary = fleet.finish()

    assert (summary.task, summary.metric) == (TASK, "mean_distance")
    distances = [round.metrics[3]["mean_distance"] for round in summary.rounds]
    assert distances[-1] < distances[0] < 5
    assert summary.final is not None
    assert summary.final.value == min(distances)
    assert summary.final.on_devices[3].devices == 2
    assert 0 < summary.final.on_devices[3].mean["mean_distance"] < 5
    assert [(proof.asked, proof.proved) for proof in summary.proofs] == [(2, 2)]
    (file,) = summary.onnx
    np.save(tmp_path / "sample.npy", np.zeros((1, 8, 8), np.float32))
    answer = Classifier(tmp_path / "run" / "onnx" / file.file).predict(tmp_path / "sample.npy")
    values = dict(answer.values)
    assert values["rounded"] == round(values["level"])


def test_a_simulation_has_metrics_of_its_users_own_task(tmp_path: Path, engine: LocalEngine) -> None:
    events: list[object] = []
    run = experiment(
        model=ModelSettings(name="mlp", input=(1, 8, 8), classes=10, task=TASK),
        evaluation=EvaluationSettings(holdout=0.2, metric="mean_distance", better="lower"),
    )
    summary = simulate(run, tmp_path / "run", engine=engine, on_event=events.append)
    last = summary.rounds[-1]
    depth = max(last.metrics)
    assert set(last.metrics[depth]) == {"mean_distance", "loss"}
    assert 0 < last.metrics[depth]["mean_distance"] < last.metrics[depth]["loss"]
    assert last.accuracy == {}
    assert summary.final is not None
    assert summary.final.metrics == last.metrics
    (ended, *_) = [event for event in reversed(events) if isinstance(event, RoundFinished)]
    assert ended.metrics == last.metrics
    assert 0 < summary.final.on_devices[depth].mean["mean_distance"] < 10


@pytest.fixture(scope="module")
def engine():  # type: ignore[no-untyped-def]
    with LocalEngine(1) as engine:
        yield engine
