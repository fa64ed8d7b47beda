"""What devices measured on their own held-out samples, summed up."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.core.device_scores import (
    HeldOutScores,
    anomaly_thresholds,
    fleet_scores,
    median_losses,
    problem_of,
    worst_tenth,
)
from fedlp_edge.core.metrics.task_metrics import ERROR_BINS


def scores(right: float, samples: float = 10.0, **changes: tuple[float, ...]) -> HeldOutScores:
    """Of two classes, all samples of the first one."""
    sums = {"samples": (samples,), "loss": (samples,), "support": (samples, 0.0), "predicted": (samples, 0.0)}
    return HeldOutScores(sums | {"correct": (right, 0.0)} | changes)


def test_mean_counts_samples_spread_counts_devices_and_the_worst_tenth_is_one_of_ten() -> None:
    reports = {f"d{number}": {1: scores(right=5.0)} for number in range(9)} | {"d9": {1: scores(0.0, samples=110.0)}}
    found = fleet_scores("classification", reports)[1]
    assert (found.devices, found.samples) == (10, 200)
    assert found.mean["accuracy"] == pytest.approx(45 / 200)
    assert found.spread["accuracy"] == pytest.approx(0.15)
    assert found.worst["accuracy"] == 0.0
    assert found.worst["loss"] == 1.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_worst_tenth_is_no_better_than_the_mean(values: list[float]) -> None:
    assert worst_tenth(values, "higher") <= math.fsum(values) / len(values) + 1e-12
    assert worst_tenth(values, "lower") >= math.fsum(values) / len(values) - 1e-12


def test_each_depth_is_summed_up_alone() -> None:
    found = fleet_scores("classification", {"a": {1: scores(10.0)}, "b": {1: scores(0.0), 2: scores(5.0)}})
    assert {depth: one.mean["accuracy"] for depth, one in found.items()} == {1: 0.5, 2: 0.5}


def test_metrics_of_a_task_of_the_users_own_are_weighted_by_samples() -> None:
    def own(samples: float, value: float) -> HeldOutScores:
        return HeldOutScores({"samples": (samples,), "loss": (samples,)}, {"score": value})

    found = fleet_scores("mine:task", {"a": {1: own(30.0, 1.0)}, "b": {1: own(10.0, 0.0)}})[1]
    assert found.mean == {"score": 0.75, "loss": 1.0}
    assert set(found.worst) == {"loss"}  # nobody has said which way the score is better


def test_who_reports_other_arrays_than_most_is_left_out() -> None:
    odd = HeldOutScores(
        {"samples": (10.0,), "loss": (0.0,), "support": (10.0,), "predicted": (10.0,), "correct": (10.0,)}
    )
    found = fleet_scores("classification", {"a": {1: scores(0.0)}, "b": {1: scores(0.0)}, "odd": {1: odd}})[1]
    assert (found.devices, found.mean["accuracy"]) == (2, 0.0)


def test_large_arrays_that_one_device_lacks_are_left_out_for_all() -> None:
    with_matrix = scores(10.0, confusion=(10.0, 0.0, 0.0, 0.0))
    found = fleet_scores("classification", {"a": {1: with_matrix}, "b": {1: scores(0.0)}})[1]
    assert (found.devices, found.mean["accuracy"]) == (2, 0.5)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (scores(5.0, samples=0.0), "on how many of its 100 samples"),
        (scores(5.0, samples=101.0), "on how many of its 100 samples"),
        (scores(5.0, samples=9.5), "on how many of its 100 samples"),
        (scores(5.0, loss=()), "loss of the held-out samples is missing"),
        (scores(-1.0), "below 0"),
        (scores(11.0), "more held-out samples were counted than the 10"),
        (scores(5.0, support=(5.0, 4.0)), "are not 10 together"),
        (scores(5.0, correct=(10.0, 5.0)), "is 1.5, not between 0 and 1"),
        (scores(5.0, predicted=(1.0, 1.0, 1.0)), "not the sums of the task"),
        (HeldOutScores({"samples": (10.0,), "loss": (1.0,)}), "not the sums of the task"),
    ],
)
def test_counts_that_no_samples_can_have_are_found_out(wrong: HeldOutScores, words: str) -> None:
    assert words in str(problem_of("classification", wrong, 100))


def test_honest_counts_pass() -> None:
    assert problem_of("classification", scores(5.0), 10) is None
    assert problem_of("mine:task", HeldOutScores({"samples": (5.0,), "loss": (-2.0,), "mine": (-9.0,)}), 10) is None


def test_median_loss_is_not_decided_by_one_device() -> None:
    bad = scores(0.0, loss=(1e300,))
    assert median_losses({"a": {1: bad}}) == {}
    assert median_losses({"a": {1: bad}, "b": {1: scores(5.0)}}) == {1: 1.0}
    assert median_losses({"a": {1: bad}, "b": {1: bad}, "c": {1: scores(5.0)}}) == {1: math.inf}


def test_the_threshold_is_that_of_all_normal_samples_together() -> None:
    def scores(*counts: tuple[int, float]) -> HeldOutScores:
        normal = [0.0] * ERROR_BINS
        for place, count in counts:
            normal[place] = count
        total = sum(count for _, count in counts)
        return HeldOutScores({"samples": (total,), "loss": (1.0,), "normal": tuple(normal),
                              "anomalous": (0.0,) * ERROR_BINS})  # fmt: skip

    reports = {"a": {1: scores((256, 98.0))}, "b": {1: scores((288, 2.0)), 2: scores((0, 0.0))}}
    # Bin 256 is the first of errors from 1; each of the 512 bins takes 16 / 512 decades.
    assert anomaly_thresholds(0.98, reports) == {1: pytest.approx(10 ** (1 / 32))}
    assert anomaly_thresholds(0.99, reports) == {1: pytest.approx(10 ** (1 + 0.5 / 32))}


def test_anomalous_samples_are_counted_beside_the_normal_ones() -> None:
    scores = HeldOutScores({"samples": (3.0,), "loss": (1.0,), "normal": (3.0,), "anomalous": (9.0,)})
    assert problem_of("anomaly", scores, 12) is None
    assert problem_of("anomaly", scores, 11) == "more held-out samples were counted than the 11 that the device has"
