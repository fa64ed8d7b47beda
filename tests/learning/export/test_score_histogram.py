"""The distribution of a model's scores, over bins that suit what the scores are."""

from __future__ import annotations

import numpy as np
import pytest

from fedlp_edge.learning.export.metadata import ScoreHistogram
from fedlp_edge.learning.export.score_histogram import PROBABILITY_EDGES, bin_of, score_histogram, scores_of


def test_probabilities_are_counted_in_ten_bins() -> None:
    scores = scores_of("classification", {"logits": np.array([[0.0, 0.0], [100.0, 0.0]])})
    assert scores.tolist() == [0.5, 1.0]
    assert score_histogram("classification", scores) == ScoreHistogram(
        edges=PROBABILITY_EDGES, shares=(0, 0, 0, 0, 0, 0.5, 0, 0, 0, 0.5)
    )


def test_other_scores_are_counted_between_their_own_quantiles() -> None:
    found = score_histogram("anomaly", scores_of("anomaly", {"score": np.arange(100.0)}))
    assert found is not None
    assert found.edges[4] == pytest.approx(49.5)
    assert found.shares == (0.1,) * 10


def test_a_regression_is_scored_by_its_first_target_and_labels_by_the_most_probable() -> None:
    assert scores_of("regression", {"values": np.array([[3.0, 9.0], [4.0, 9.0]])}).tolist() == [3.0, 4.0]
    assert scores_of("multi-label", {"probabilities": np.array([[0.2, 0.7]])}).tolist() == [0.7]


def test_equal_scores_have_one_edge() -> None:
    found = score_histogram("regression", np.full(5, 2.0))
    assert found == ScoreHistogram(edges=(2.0,), shares=(0.0, 1.0))


def test_no_scores_and_infinite_ones_have_no_histogram() -> None:
    assert score_histogram("anomaly", np.array([])) is None
    assert score_histogram("anomaly", np.array([1.0, np.inf])) is None


@pytest.mark.parametrize(("score", "number"), [(-1.0, 0), (0.0, 0), (0.1, 1), (0.95, 9), (1.0, 9)])
def test_a_score_on_an_edge_is_in_the_bin_above(score: float, number: int) -> None:
    assert bin_of(PROBABILITY_EDGES, score) == number
