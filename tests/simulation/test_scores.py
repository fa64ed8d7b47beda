from __future__ import annotations

import numpy as np

from fedlp_edge.core.metrics.exit_sums import ExitSums
from fedlp_edge.core.metrics.model_scores import NO_SCORES, ModelScores
from fedlp_edge.simulation.engines.jobs import EvaluatePart, PartEvaluated, PersonalHeadEvaluated
from fedlp_edge.simulation.scores import PART_SAMPLES, by_tier, combine_scores, own_by_tier, parts


def counts(depth: int, samples: tuple[int, ...], right: tuple[int, ...]) -> ExitSums:
    """Of one exit with a loss of 1 for each sample."""
    total = (float(sum(samples)),)
    sums = {"samples": total, "loss": total, "support": samples, "predicted": samples, "correct": right}
    return ExitSums({depth: sums}, {depth: sums})


def part(start: int, samples: tuple[int, ...], right: tuple[int, ...]) -> PartEvaluated:
    return PartEvaluated(start, counts(2, samples, right))


def personalised(said: ModelScores, *prior: float) -> float:
    """What depth 2 is worth to a device with these shares of the classes."""
    return by_tier(said, {"a": 2}, {"a": 0}, np.array([prior]))[2]


def test_puts_parts_together_in_any_order() -> None:
    pieces = [part(0, (2, 2), (1, 2)), part(4, (1, 3), (1, 0))]
    for job in (pieces, pieces[::-1]):
        said = combine_scores(job)
        assert (said.accuracy, said.loss, said.ensemble) == ({2: 0.5}, {2: 1.0}, {})
        assert (personalised(said, 1.0, 0.0), personalised(said, 0.0, 1.0)) == (2 / 3, 0.4)
    assert combine_scores([]) is NO_SCORES


def test_weighs_classes_as_a_device_holds_them() -> None:
    said = combine_scores([part(0, (2, 4, 0), (1, 4, 0))])
    assert personalised(said, 1.0, 0.0, 0.0) == 0.5
    assert personalised(said, 0.5, 0.5, 0.0) == 0.75
    # There is no test sample of the last class: the others count for the whole.
    assert personalised(said, 0.25, 0.0, 0.75) == 0.5
    priors = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    assert by_tier(said, {"a": 2, "b": 2, "c": 1}, {"a": 0, "b": 1, "c": 1}, priors) == {2: 0.75}


def test_a_model_may_have_more_classes_than_the_data() -> None:
    said = combine_scores([part(0, (2, 4, 0), (1, 4, 0))])
    assert personalised(said, 0.5, 0.5) == 0.75


def test_weighs_what_own_heads_know_by_what_their_devices_hold() -> None:
    judged = [
        PersonalHeadEvaluated("b", 1, counts(1, (4, 0, 4), (2, 0, 4))),
        PersonalHeadEvaluated("a", 1, counts(1, (4, 0, 4), (0, 0, 4))),
        PersonalHeadEvaluated("c", 2, counts(2, (1,), (1,))),
    ]
    priors = np.array([[1.0, 0.0, 0.0], [0.25, 0.5, 0.25], [1.0, 0.0, 0.0]])
    numbers = {"a": 0, "b": 1, "c": 2}
    # Device a holds only what its head gets wrong; of b's classes the test set lacks one.
    assert own_by_tier(judged, numbers, priors) == {1: (0.0 + 0.75) / 2, 2: 1.0}


def test_a_task_without_classes_has_the_same_score_on_every_device() -> None:
    sums = {
        "samples": (4.0,), "loss": (2.0,), "deviations": (0.0,), "squares": (16.0,),
        "absolute_errors": (4.0,), "squared_errors": (4.0,),
    }  # fmt: skip
    said = combine_scores([PartEvaluated(0, ExitSums({1: sums}, {1: sums}))], "regression")
    assert said.metrics == {1: {"mae": 1.0, "rmse": 1.0, "mse": 1.0, "r2": 0.75, "loss": 0.5}}
    assert (said.accuracy, said.ensemble) == ({}, {})
    assert by_tier(said, {"a": 1}, {"a": 0}, np.ones((1, 1)), "regression") == {1: 1.0}


def test_cuts_the_test_set_without_gap_or_overlap() -> None:
    spans = [(job.job.start, job.job.stop) for job in parts(3, (1, 2), 2 * PART_SAMPLES + 5, 10)]  # type: ignore[union-attr]
    assert spans == [(0, PART_SAMPLES), (PART_SAMPLES, 2 * PART_SAMPLES), (2 * PART_SAMPLES, 2 * PART_SAMPLES + 5)]


def test_states_the_cost_of_a_part_in_multiply_accumulates() -> None:
    (job,) = parts(3, (1, 2), 5, 10)
    assert job.job == EvaluatePart(3, (1, 2), 0, 5)
    assert job.cost == 50.0
    assert parts(3, (1,), 0, 10) == []


def test_judges_by_the_mean_of_exits_where_models_answer_with_it() -> None:
    alone, mean = counts(2, (2, 2), (0, 1)).exits[2], counts(2, (2, 2), (2, 1)).exits[2]
    first = counts(1, (2, 2), (1, 1)).exits[1]
    judged = [PartEvaluated(0, ExitSums({1: first, 2: alone}, {1: first, 2: mean}))]
    said = combine_scores(judged, answer="mean")
    assert (said.accuracy, said.exits) == ({1: 0.5, 2: 0.75}, {1: 0.5, 2: 0.25})
    assert personalised(said, 1.0, 0.0) == 1.0
    assert combine_scores(judged).accuracy == said.exits
