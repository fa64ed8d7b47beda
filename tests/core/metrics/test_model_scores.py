from __future__ import annotations

from fedlp_edge.core.metrics.model_scores import NO_SCORES, ExitScores, model_scores

EXITS = ExitScores({1: {"accuracy": 0.5}, 2: {"accuracy": 0.25}}, {1: 1.0, 2: 2.0}, {2: {"correct": (1.0,)}})
MEANS = ExitScores({1: {"accuracy": 0.5}, 2: {"accuracy": 0.75}}, {1: 1.0, 2: 0.5}, {2: {"correct": (3.0,)}})


def test_models_are_worth_what_their_files_answer() -> None:
    mean, exit = (model_scores(answer, "accuracy", EXITS, MEANS) for answer in ("mean", "exit"))
    assert (mean.accuracy, mean.loss, mean.sums) == ({1: 0.5, 2: 0.75}, {1: 1.0, 2: 0.5}, {2: {"correct": (3.0,)}})
    assert (exit.accuracy, exit.loss, exit.sums) == ({1: 0.5, 2: 0.25}, {1: 1.0, 2: 2.0}, {2: {"correct": (1.0,)}})
    assert (mean.exits, exit.exits) == ({1: 0.5, 2: 0.25}, {})
    assert mean.ensemble == exit.ensemble == {1: 0.5, 2: 0.75}


def test_a_single_exit_has_no_ensemble_and_another_task_its_own_metric() -> None:
    errors = ExitScores({1: {"rmse": 2.0, "mae": 1.0}})
    assert model_scores("mean", "rmse", errors, errors).exits == {1: 2.0}
    assert model_scores("exit", "rmse", errors, errors).ensemble == {}
    assert model_scores("mean", "rmse", errors, errors).accuracy == NO_SCORES.accuracy == {}
