from __future__ import annotations

from fedlp_edge.core.metrics.task_metrics import VALUE_BINS
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.reporting.answer_counts import answer_counts


def test_reads_a_confusion_matrix_and_names_what_has_no_name() -> None:
    sums = {"samples": (7.0,), "support": (4.0, 3.0, 0.0), "confusion": (2.0, 1.0, 1.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0)}
    counts = answer_counts(ModelSettings(classes=3, class_names=("cat", "dog")), "devices", 2, sums)

    assert counts is not None
    assert (counts.samples, counts.names) == (7, ("cat", "dog", "2"))
    assert counts.confusion == ((2, 1, 1), (3, 0, 0), (0, 0, 0))
    assert counts.most_confused(2) == [("dog", "cat", 3, 3), ("cat", "dog", 1, 4)]


def test_reads_pairs_in_the_units_of_their_targets() -> None:
    pairs = [0.0] * (2 * VALUE_BINS**2)
    pairs[1] = 5.0  # of the first target, true values of the first bin that were taken for the second
    model = ModelSettings(
        task="regression", classes=2, class_names=("t", "p"), target_mean=(20.0, 1.0), target_std=(5.0, 0.5),
        target_units=("°C", ""),
    )  # fmt: skip
    counts = answer_counts(model, "central", 1, {"samples": (5.0,), "pairs": tuple(pairs)})

    assert counts is not None
    first, second = counts.values
    assert (first.name, first.unit, first.low, first.high) == ("t", "°C", 0.0, 40.0)
    assert (second.name, second.low, second.high) == ("p", -1.0, 3.0)
    assert first.counts[0][:3] == (0, 5, 0)
    assert sum(map(sum, second.counts)) == 0


def test_other_tasks_and_many_classes_have_no_picture() -> None:
    assert answer_counts(ModelSettings(task="anomaly"), "central", 1, {"samples": (1.0,)}) is None
    assert answer_counts(ModelSettings(classes=100), "central", 1, {"samples": (1.0,), "support": (1.0,) * 100}) is None
