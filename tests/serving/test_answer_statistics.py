"""Counts, percentiles and drift of what a model answers."""

from __future__ import annotations

import pytest

from fedlp_edge.core.metrics.serving_report import ServingReport
from fedlp_edge.learning.export.metadata import ScoreHistogram
from fedlp_edge.learning.export.score_histogram import PROBABILITY_EDGES
from fedlp_edge.serving.answer_statistics import AnswerStatistics, distance


def test_nothing_was_answered_yet() -> None:
    reference = ScoreHistogram(edges=(0.5,), shares=(0.5, 0.5))
    assert AnswerStatistics("m.onnx", reference).report() == ServingReport(file="m.onnx", edges=(0.5,))


def test_answers_are_counted_by_label_and_confidence() -> None:
    statistics = AnswerStatistics(edges=PROBABILITY_EDGES)
    for label, confidence, seconds in (("nut", 0.95, 0.001), ("nut", 1.0, 0.002), ("bolt", 0.31, 0.003)):
        statistics.answered(label, confidence, seconds)
    statistics.refused()
    report = statistics.report()
    assert (report.answers, report.refused) == (3, 1)
    assert report.labels == {"nut": 2, "bolt": 1}
    assert report.milliseconds == {50: 2.0, 90: 3.0, 99: 3.0}
    assert report.scores == pytest.approx((0, 0, 0, 1 / 3, 0, 0, 0, 0, 0, 2 / 3))
    assert report.drift is None


def test_numbers_have_no_labels_and_no_scores_without_a_reference() -> None:
    statistics = AnswerStatistics()
    statistics.answered("", 17.5, 0.001)
    report = statistics.report()
    assert (report.answers, report.labels, report.scores, report.drift) == (1, {}, (), None)


def test_distance_is_zero_for_equal_and_one_for_disjoint_distributions() -> None:
    assert distance((0.25, 0.75), (0.25, 0.75)) == 0.0
    assert distance((1.0, 0.0), (0.0, 1.0)) == 1.0
    # Divergence of (1, 0) and (1/2, 1/2): 1/2 log2(4/3) + 1/2 (1/2 log2(2/3) + 1/2 log2(2)) = 0.3113 bits.
    assert distance((1.0, 0.0), (0.5, 0.5)) == pytest.approx(0.3113**0.5, abs=1e-4)


def test_drift_compares_with_the_reference() -> None:
    statistics = AnswerStatistics(reference=ScoreHistogram(edges=(0.9,), shares=(0.0, 1.0)))
    statistics.answered("nut", 0.05, 0.001)
    assert statistics.report().drift == 1.0
