"""Metrics of small sums, written out."""

from __future__ import annotations

import pytest

from fedlp_edge.core.metrics.task_metrics import (
    ERROR_BINS,
    ERROR_DECADES,
    SCORE_BINS,
    accuracies,
    mean_loss,
    metrics_of,
    score_quantile,
)


def test_classes_that_do_not_occur_are_left_out_of_means():
    sums = {
        "samples": (4.0,), "loss": (2.0,),
        "support": (2.0, 2.0, 0.0), "predicted": (3.0, 1.0, 0.0), "correct": (2.0, 1.0, 0.0),
    }  # fmt: skip
    assert metrics_of("classification", sums) == {
        "accuracy": 0.75,
        "balanced_accuracy": 0.75,
        "macro_f1": pytest.approx((0.8 + 2 / 3) / 2),
        "loss": 0.5,
    }


def test_a_target_that_never_changes_has_no_r2():
    sums = {
        "samples": (2.0,), "loss": (1.0,), "deviations": (2.0, 0.0), "squares": (2.0, 2.0),
        "absolute_errors": (2.0, 0.0), "squared_errors": (2.0, 0.0),
    }  # fmt: skip
    metrics = metrics_of("regression", sums)
    assert metrics["r2"] == metrics["r2_2"] == 1.0
    assert "r2_1" not in metrics
    assert (metrics["rmse_1"], metrics["rmse_2"], metrics["rmse"]) == (1.0, 0.0, 0.5)


def test_scores_in_one_bin_count_half():
    def bins(**counts):
        return tuple(float(counts.get(f"bin{number}", 0)) for number in range(SCORE_BINS))

    sums = {
        "samples": (4.0,), "loss": (0.0,), "exact": (4.0,),
        "true_positives": (2.0,), "false_positives": (0.0,), "false_negatives": (0.0,),
        "positives": bins(bin3=1, bin9=1), "negatives": bins(bin1=1, bin3=1),
    }  # fmt: skip
    # Of the four pairs of a positive and a negative sample three are in order, and one is a tie.
    assert metrics_of("multi-label", sums)["roc_auc"] == 3.5 / 4


def test_without_anomalies_there_is_only_a_loss():
    sums = {"samples": (2.0,), "loss": (1.0,), "normal": (2.0,) + (0.0,) * 511, "anomalous": (0.0,) * 512}
    assert metrics_of("anomaly", sums) == {"loss": 0.5}


def test_quantile_of_scores_lies_in_the_bin_that_reaches_it():
    normal = [0.0] * ERROR_BINS
    normal[256] = 3.0  # from 10^0 on
    normal[288] = 1.0  # from 10^1 on
    width = (ERROR_DECADES[1] - ERROR_DECADES[0]) / ERROR_BINS
    sums = {"normal": tuple(normal)}
    assert score_quantile(sums, 0.75) == pytest.approx(10**width)
    assert score_quantile(sums, 1.0) == pytest.approx(10 ** (1 + width))
    assert score_quantile({"normal": (0.0,) * ERROR_BINS}, 0.5) is None


def test_own_tasks_are_left_to_their_code():
    assert metrics_of("my:task", {"samples": (1.0,)}) is None


def test_no_sums_give_no_metrics():
    assert metrics_of("regression", {}) == {}


def test_mean_loss_of_no_samples_is_none():
    assert mean_loss({"samples": (0.0,), "loss": (0.0,)}) is None


def test_only_what_has_an_accuracy_has_one_by_depth():
    assert accuracies({1: {"accuracy": 0.5, "loss": 1.0}, 2: {"rmse": 3.0}}) == {1: 0.5}
