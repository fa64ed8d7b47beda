"""What devices say about their final models, and what the coordinator makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.final.device_findings import DeviceFindings
from fedlp_edge.core.device_scores import HeldOutScores
from fedlp_edge.core.metrics.tensor_ranges import TensorRange
from fedlp_edge.reporting.summary import FileProof
from fedlp_edge.storage.journal import Journal, told_ranges
from fedlp_edge.wire.messages import ModelProof
from fedlp_edge.wire.packed_scores import packed_scores


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal.open(tmp_path / "journal.sqlite")


def proof(right: float = 8.0, *, depth: int = 2, **changes: object) -> ModelProof:
    sums = {"samples": (10.0,), "loss": (5.0,), "support": (5.0, 5.0), "predicted": (5.0, 5.0)}
    scores = {depth: HeldOutScores(sums | {"correct": (5.0, right - 5.0)})}
    what = {"samples": 10, "max_abs_diff": 1e-6, "agreement": 1.0, "scores": packed_scores(scores)}
    return ModelProof(depth, **what | changes)  # type: ignore[arg-type]


def findings(journal: Journal, *devices: str) -> DeviceFindings:
    found = DeviceFindings(journal, "classification", "digest")
    for device in devices:
        found.ask(device, 2, samples=100)
    return found


def test_counts_who_proved_the_file_and_the_largest_difference(journal: Journal) -> None:
    found = findings(journal, "a", "b", "c")
    found.reported("a", proof(8.0))
    found.reported("b", proof(6.0, max_abs_diff=3e-6, agreement=0.9))
    assert found.proofs() == (
        FileProof(
            depth=2,
            asked=3,
            proved=2,
            samples=20,
            max_abs_diff=3e-6,
            agreement=0.9,
            problems={"c": "the device has not said what it found"},
        ),
    )
    scores = found.scores()[2]
    assert (scores.devices, scores.samples, found.not_reporting) == (2, 20, 1)
    assert scores.mean["accuracy"] == pytest.approx(0.7)
    assert scores.spread["accuracy"] == pytest.approx(0.1)
    assert scores.worst["accuracy"] == pytest.approx(0.6)


def test_a_file_that_could_not_be_compared_is_not_proved_though_the_model_was_judged(journal: Journal) -> None:
    found = findings(journal, "a")
    found.reported("a", proof(samples=0, problem="onnxruntime is not installed"))
    (file,) = found.proofs()
    assert (file.asked, file.proved, file.problems) == (1, 0, {"a": "onnxruntime is not installed"})
    assert found.scores()[2].devices == 1


@pytest.mark.parametrize(
    "impossible",
    [
        proof(depth=1),
        proof(samples=101),
        proof(scores=packed_scores({2: HeldOutScores({"samples": (101.0,), "loss": (1.0,)})})),
        proof(scores=packed_scores({1: HeldOutScores({"samples": (10.0,), "loss": (1.0,)})})),
    ],
    ids=["another depth", "too many samples", "judged on too many samples", "judged another exit"],
)
def test_what_cannot_be_counts_for_nothing(journal: Journal, impossible: ModelProof) -> None:
    found = findings(journal, "a")
    found.reported("a", impossible)
    assert found.scores() == {}


def test_ranges_are_kept_for_an_export_of_this_very_model(journal: Journal, tmp_path: Path) -> None:
    ranges = (TensorRange(4, 1.0, 2.0, -1.0, 3.0),)
    found = findings(journal, "a", "b", "c")
    found.reported("a", proof(ranges=ranges))
    found.reported("b", proof())
    found.reported("c", proof(problem="differs from PyTorch", ranges=ranges))
    assert told_ranges(tmp_path / "journal.sqlite", "digest") == {"a": ranges}
    assert told_ranges(tmp_path / "journal.sqlite", "another model") == {}
    assert told_ranges(tmp_path / "gone.sqlite", "digest") == {}


def test_nobody_speaks_who_was_not_asked_and_nobody_twice(journal: Journal) -> None:
    found = findings(journal, "a")
    found.reported("stranger", proof())
    found.reported("a", proof(8.0))
    found.reported("a", proof(6.0))
    assert found.scores()[2].mean["accuracy"] == pytest.approx(0.8)
    assert not found.awaits("a")


def test_another_life_of_the_coordinator_goes_on_with_what_was_found_about_this_very_model(journal: Journal) -> None:
    findings(journal, "a").reported("a", proof(8.0))
    again = findings(journal, "a", "b")
    assert again.installed == ("a",)
    assert (again.awaits("a"), again.awaits("b")) == (False, True)
    again.reported("b", proof(6.0))
    assert again.scores()[2].mean["accuracy"] == pytest.approx(0.7)
    other = DeviceFindings(journal, "classification", "another model")
    assert not other.told
