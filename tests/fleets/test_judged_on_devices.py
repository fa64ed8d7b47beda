"""Fleets whose coordinator has no data: the devices judge the model on what they hold out, and prove the ONNX files."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from coordinator.config import DataSettings
from fedlp_edge.core.settings import EvaluationSettings, ModelSettings
from fedlp_edge.learning.export.inference import Classifier
from fedlp_edge.reporting.events import ModelsProved
from fedlp_edge.storage.journal import told_ranges
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from tests.fleets.fleet import Fleet
from tests.fleets.test_fine_tuning import fleet_of as real_fleet
from tests.fleets.virtual import VirtualFleet

WITHOUT_DATA = """
[data]
evaluate = ""
"""


def without_data(directory: Path, **settings: object) -> VirtualFleet:
    fleet = VirtualFleet(directory, devices=4, rounds=2, **settings)  # type: ignore[arg-type]
    fleet.config = msgspec.structs.replace(fleet.config, data=DataSettings(evaluate=""))
    return fleet


def test_a_fleet_without_test_data_is_judged_and_its_files_are_proved_on_its_devices(tmp_path: Path) -> None:
    fleet = without_data(tmp_path)
    fleet.silent = {"dev-3"}
    fleet.start_all()
    summary = fleet.finish()

    for round in summary.rounds:
        assert {depth: (scores.devices, scores.samples) for depth, scores in round.on_devices.items()} == {
            1: (2, 20),
            2: (1, 10),
        }
        assert round.not_reporting == 1
        assert not round.accuracy
    assert summary.final is not None
    assert {depth: scores.devices for depth, scores in summary.final.on_devices.items()} == {1: 2, 2: 1}
    assert [(proof.depth, proof.asked, proof.proved) for proof in summary.proofs] == [(1, 2, 2), (2, 2, 1)]
    assert [proof.max_abs_diff for proof in summary.proofs] == [1e-6, 2e-6]
    assert [model.depth for model in summary.onnx] == [1, 2]
    assert set(summary.delivered.values()) == {"installed"}
    (proved,) = [event for event in fleet.events if isinstance(event, ModelsProved)]
    assert proved.on_devices == summary.final.on_devices


def test_who_reports_changes_no_bit_of_the_model(tmp_path: Path) -> None:
    told, silent = without_data(tmp_path / "told"), without_data(tmp_path / "silent")
    silent.silent = set(silent.names)
    finals = []
    for fleet in (told, silent):
        fleet.start_all()
        summary = fleet.finish()
        assert summary.final is not None
        finals.append(summary.final)
    assert finals[0].model_digest == finals[1].model_digest
    assert finals[1].on_devices == {}
    assert finals[1].not_reporting == 4


def test_a_device_with_a_head_of_its_own_judges_that_head(tmp_path: Path) -> None:
    fleet = without_data(tmp_path, head_mode="personal")
    fleet.start_all()
    summary = fleet.finish()
    assert set(summary.rounds[-1].on_devices) == {1, 2}
    assert [(proof.depth, proof.asked) for proof in summary.proofs] == [(1, 2), (2, 2)]


def test_with_test_data_and_held_out_samples_both_are_shown(tmp_path: Path) -> None:
    fleet = VirtualFleet(tmp_path, rounds=1)
    fleet.config = msgspec.structs.replace(fleet.config, evaluation=EvaluationSettings(holdout=0.2))
    fleet.start_all()
    summary = fleet.finish()
    assert set(summary.rounds[0].accuracy) == set(summary.rounds[0].on_devices) == {1, 2}
    assert summary.final is not None
    assert set(summary.final.accuracy) == set(summary.final.on_devices) == {1, 2}


@pytest.mark.system
def test_a_fleet_without_test_data_over_mosquitto_ends_with_files_that_its_devices_have_proved(
    tmp_path: Path, mosquitto: MosquittoBroker
) -> None:
    with Fleet(tmp_path, mosquitto.url, "no-data", devices=3, rounds=3, more=WITHOUT_DATA) as fleet:
        fleet.start_coordinator()
        fleet.start_device(0)
        fleet.start_device(1)
        fleet.start_device(2, "--no-report-metrics")
        summary = fleet.finish()
        for number in range(fleet.devices):
            assert fleet.processes[f"dev-{number}"].wait(30) == 0, fleet.logs()
        events = fleet.wait_for(bool)

    assert all(not round.accuracy for round in summary.rounds)
    for round in summary.rounds:
        (scores,) = round.on_devices.values()
        assert (scores.devices, round.not_reporting) == (2, 1)
        assert set(scores.mean) >= {"accuracy", "loss", "macro_f1"}
        assert scores.worst["accuracy"] <= scores.mean["accuracy"]
    (before,), (after,) = summary.rounds[0].on_devices.values(), summary.rounds[-1].on_devices.values()
    assert after.mean["accuracy"] > before.mean["accuracy"]

    assert summary.final is not None
    (final,) = summary.final.on_devices.values()
    assert final.mean["accuracy"] > 0.4
    assert summary.final.not_reporting == 1
    (proof,) = summary.proofs
    assert (proof.asked, proof.proved) == (3, 2), fleet.logs()
    assert proof.samples == final.samples
    assert proof.agreement == 1.0
    assert proof.max_abs_diff < 1e-4  # exactly 0 on some processors
    assert list(proof.problems) == ["dev-2"]
    ranges = told_ranges(fleet.run / "journal.sqlite", summary.final.model_digest)
    assert set(ranges) == {"dev-0", "dev-1"}
    assert all(len(of_device) > 3 for of_device in ranges.values())
    assert [model.accuracy for model in summary.onnx] == [None]
    assert set(summary.delivered.values()) == {"installed"}
    assert [event.proofs for event in events if isinstance(event, ModelsProved)] == [summary.proofs]


def test_devices_measure_the_threshold_of_an_anomaly_detector_where_nobody_else_has_samples(tmp_path: Path) -> None:
    fleet = real_fleet(tmp_path, ModelSettings(name="mlp", input=(1, 8, 8), classes=0, task="anomaly"))
    fleet.start_all()
    summary = fleet.finish()

    measured = summary.rounds[-1].thresholds
    assert sorted(measured) == [model.depth for model in summary.onnx if model.depth < 3 or 3 in measured]
    for model in summary.onnx:
        metadata = Classifier(fleet.run / "onnx" / model.file).onnx_metadata
        assert metadata.threshold == measured[model.depth]
        assert 0.1 < measured[model.depth] < 10
    for refused in summary.refused:
        assert refused.depth not in measured
        assert "have devices of this depth hold some out" in refused.reason
