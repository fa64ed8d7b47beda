"""Counts of scores and values by bin."""

from __future__ import annotations

import torch

from fedlp_edge.core.metrics.task_metrics import ERROR_BINS, MAX_LOG_ODDS, SCORE_BINS, VALUE_BINS, VALUE_RANGE
from fedlp_edge.learning.tasks.histograms import error_histogram, score_histogram, value_histogram


def test_scores_are_counted_apart_by_label_and_by_truth() -> None:
    scores = torch.tensor([[-2 * MAX_LOG_ODDS, 0.0], [2 * MAX_LOG_ODDS, 0.0]])
    found = score_histogram(scores, torch.tensor([[False, True], [True, True]]))
    assert found["positives"].nonzero().flatten().tolist() == [SCORE_BINS - 1, SCORE_BINS + SCORE_BINS // 2]
    assert found["positives"][SCORE_BINS + SCORE_BINS // 2] == 2
    assert found["negatives"].nonzero().flatten().tolist() == [0]


def test_errors_that_are_nothing_or_no_number_are_in_the_outermost_bins() -> None:
    found = error_histogram(torch.tensor([0.0, torch.inf, torch.nan]))
    assert (len(found), found[0].item(), found[-1].item()) == (ERROR_BINS, 1, 2)


def test_pairs_are_counted_by_target_truth_and_prediction() -> None:
    far = 10 * VALUE_RANGE
    found = value_histogram(torch.tensor([[-far, far]]), torch.tensor([[far, -far]]))
    table = found.reshape(2, VALUE_BINS, VALUE_BINS)
    assert table.sum() == 2
    assert table[0, 0, -1] == 1
    assert table[1, -1, 0] == 1
