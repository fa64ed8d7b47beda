from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.core.rounds.metric_history import MeasuredRound, MetricHistory
from fedlp_edge.core.settings import EvaluationSettings


def history(values: list[float], name: str = "accuracy", **settings: object) -> MetricHistory:
    made = MetricHistory(EvaluationSettings(**settings), name)  # type: ignore[arg-type]
    for round, value in enumerate(values, 1):
        made.add(MeasuredRound(round, value))
    return made


def test_best_is_the_first_of_the_highest_values_of_an_accuracy_and_of_the_lowest_of_a_loss() -> None:
    assert history([0.5, 0.8, 0.7, 0.8]).best() == (2, 0.8)
    assert history([0.5, 0.8, 0.4, 0.4], "loss").best() == (3, 0.4)
    assert history([]).best() is None


def test_best_is_among_the_rounds_whose_model_is_there() -> None:
    assert history([0.5, 0.8, 0.7]).best(lambda round: round != 2) == (3, 0.7)
    assert history([0.5]).best(lambda _: False) is None


def test_metric_of_a_task_of_its_own_is_better_the_way_that_the_settings_say() -> None:
    assert history([1.0, 3.0, 2.0], "shine", metric="shine", better="higher").best() == (2, 3.0)


def test_value_that_is_no_number_is_never_the_best() -> None:
    assert history([math.nan, 0.5, math.inf]).best() == (2, 0.5)
    assert history([math.nan, math.nan], patience=2).plateau == "accuracy was no number in 2 measured rounds"


@pytest.mark.parametrize(
    ("values", "settings", "wanted"),
    [
        (
            [0.5, 0.6, 0.6, 0.55],
            {"patience": 2},
            "accuracy has not got better than 0.6 of round 2 in 2 measured rounds",
        ),
        ([0.5, 0.6, 0.6], {"patience": 2}, ""),
        ([0.5, 0.6, 0.5, 0.7, 0.6], {"patience": 2}, ""),
        ([0.5] * 9, {}, ""),
        # Each value is a little better than the one before, but only the fourth by enough of the first.
        ([0.50, 0.51, 0.52, 0.53], {"patience": 3, "min_delta": 0.025}, ""),
        (
            [0.50, 0.51, 0.52],
            {"patience": 2, "min_delta": 0.025},
            "accuracy has not got better by more than 0.025 than 0.5 of round 1 in 2 measured rounds",
        ),
    ],
)
def test_plateau_ends_a_run_after_rounds_without_a_better_value(
    values: list[float], settings: dict[str, object], wanted: str
) -> None:
    assert history(values, **settings).plateau == wanted


@given(values=st.lists(st.floats(0, 1), max_size=30), patience=st.integers(1, 5))
def test_plateau_comes_exactly_when_the_best_is_as_old_as_the_patience(values: list[float], patience: int) -> None:
    made = history(values, patience=patience)
    best = made.best()
    assert bool(made.plateau) == (best is not None and len(values) - best.round >= patience)
