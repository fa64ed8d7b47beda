from __future__ import annotations

import logging

import msgspec
import pytest

from fedlp_edge.core.device_scores import DeviceScores
from fedlp_edge.core.metrics.answers import AnswerMode
from fedlp_edge.core.metrics.model_scores import ExitScores, model_scores
from fedlp_edge.core.settings import EvaluationSettings
from fedlp_edge.reporting.judged_rounds import JudgedRounds, Judging
from fedlp_edge.reporting.summary import FinalModel, RoundSummary


def rounds(*accuracy: float, depth: int = 1) -> list[RoundSummary]:
    """Rounds in which a device trains this depth of two, and the other one stays at chance."""
    return [
        RoundSummary(
            round=number,
            seconds=1.0,
            accuracy={1: 0.1, 2: 0.1, depth: value},
            loss={1: 2.0, 2: 2.0, depth: 1 - value},
            devices=(),
            coverage={"L1": {"a": 1}, f"H{depth}": {"a": 1}, f"H{3 - depth}": {}},
        )
        for number, value in enumerate(accuracy, 1)
    ]


def judging(choice: str = "best", rounds: int = 9, **evaluation: object) -> Judging:
    return Judging(EvaluationSettings(**evaluation), choice, "classification", True, rounds)  # type: ignore[arg-type]


def final(judged: JudgedRounds, *gone: int) -> FinalModel:
    return judged.final_model(lambda round: round not in gone, lambda round: f"digest {round}")


@pytest.mark.parametrize("depth", [1, 2])
def test_judges_by_the_deepest_exit_that_a_device_has_trained(depth: int) -> None:
    judged = JudgedRounds(judging(), rounds(0.5, 0.8, 0.7, depth=depth))
    assert judged.best() == (2, 0.8)
    assert judged.kept_rounds == {2}


def test_judges_by_the_depth_and_the_metric_that_are_named() -> None:
    assert JudgedRounds(judging(depth=2), rounds(0.5, 0.8)).best() == (1, 0.1)
    assert JudgedRounds(judging(metric="loss"), rounds(0.5, 0.75, 0.7)).best() == (2, 0.25)
    assert JudgedRounds(judging(metric="macro_f1"), rounds(0.5, 0.8)).best() is None


def test_judges_by_any_metric_of_the_task() -> None:
    summaries = [
        msgspec.structs.replace(entry, metrics={1: {"macro_f1": value}, 2: {}})
        for entry, value in zip(rounds(0.5, 0.8, 0.7), (0.25, 0.5, 0.75), strict=True)
    ]
    assert JudgedRounds(judging(metric="macro_f1"), summaries).best() == (3, 0.75)
    regression = Judging(choice="best", task="regression")
    errors = [msgspec.structs.replace(s, accuracy={}, metrics={1: {"rmse": s.accuracy[1]}}) for s in summaries]
    assert JudgedRounds(regression, errors).best() == (1, 0.5)


def test_final_model_is_that_of_the_last_round_unless_the_best_is_wanted() -> None:
    summaries = rounds(0.5, 0.8, 0.7)
    assert final(JudgedRounds(judging("last"), summaries)) == FinalModel(
        accuracy={1: 0.7, 2: 0.1}, model_digest="digest 3", round=3
    )
    assert JudgedRounds(judging("last"), summaries).kept_rounds == {2}
    assert final(JudgedRounds(judging(), summaries)) == FinalModel(
        accuracy={1: 0.8, 2: 0.1}, model_digest="digest 2", round=2, metric="accuracy", value=0.8
    )


def test_final_model_is_the_best_of_those_that_are_there(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert final(JudgedRounds(judging(), rounds(0.5, 0.8, 0.7)), 2).round == 3
    assert caplog.messages == [
        "the checkpoint of round 2, the best by accuracy, is gone: see [rounds] keep_checkpoints"
    ]


def test_run_is_over_after_its_last_round_or_when_it_has_learned_enough() -> None:
    patient = JudgedRounds(judging(rounds=3, patience=2), rounds(0.8, 0.7))
    assert (patient.over, patient.enough) == (False, "")
    assert patient.ends_with(rounds(0.8, 0.7, 0.9)[2])
    stopped = JudgedRounds(judging(rounds=9, patience=2), rounds(0.8, 0.7, 0.6))
    assert stopped.over
    assert stopped.enough == "accuracy has not got better than 0.8 of round 1 in 2 measured rounds"
    at_the_end = JudgedRounds(judging(rounds=3, patience=2), rounds(0.8, 0.7, 0.6))
    assert (at_the_end.over, at_the_end.enough) == (True, "")


def test_looking_ahead_changes_nothing() -> None:
    judged = JudgedRounds(judging(rounds=9, patience=2), rounds(0.8, 0.7))
    assert not judged.ends_with(rounds(0.8, 0.7, 0.9)[2])
    assert judged.ends_with(rounds(0.8, 0.7, 0.6)[2])
    assert not judged.over
    assert judged.best() == (1, 0.8)
    assert final(judged) == FinalModel(
        accuracy={1: 0.8, 2: 0.1}, model_digest="digest 1", round=1, metric="accuracy", value=0.8
    )


def by_answer(answer: AnswerMode, exits: tuple[float, ...], means: tuple[float, ...]) -> list[RoundSummary]:
    """Rounds whose last exit alone, and the mean of whose two exits, has these accuracies."""
    summaries = []
    for entry, exit, mean in zip(rounds(*exits, depth=2), exits, means, strict=True):
        scores = model_scores(
            answer,
            "accuracy",
            ExitScores({1: {"accuracy": 0.1}, 2: {"accuracy": exit}}),
            ExitScores({1: {"accuracy": 0.1}, 2: {"accuracy": mean}}),
        )
        summaries.append(
            msgspec.structs.replace(
                entry, answer=answer, accuracy=scores.accuracy, metrics=scores.metrics, exits=scores.exits,
                ensemble=scores.ensemble,
            )
        )  # fmt: skip
    return summaries


EXITS, MEANS = (0.9, 0.5, 0.4, 0.3), (0.6, 0.7, 0.8, 0.75)


@pytest.mark.parametrize("judged_by", ["exit", "mean"])
@pytest.mark.parametrize(("answer", "best", "accuracy"), [("exit", (1, 0.9), 0.9), ("mean", (3, 0.8), 0.8)])
def test_best_round_is_that_of_what_is_exported_even_if_rounds_were_judged_by_something_else(
    answer: AnswerMode, best: tuple[int, float], accuracy: float, judged_by: AnswerMode
) -> None:
    settings = msgspec.structs.replace(judging(), answer=answer)
    judged = JudgedRounds(settings, by_answer(judged_by, EXITS, MEANS))
    assert judged.best() == best
    assert final(judged).accuracy == {1: 0.1, 2: accuracy}


@pytest.mark.parametrize(("answer", "enough"), [("exit", True), ("mean", False)])
def test_patience_ends_with_what_is_exported(answer: AnswerMode, enough: bool) -> None:
    settings = msgspec.structs.replace(judging(patience=2), answer=answer)
    assert bool(JudgedRounds(settings, by_answer(answer, EXITS[:3], MEANS[:3])).enough) == enough


def test_what_devices_measured_of_other_answers_is_left_out() -> None:
    settings = Judging(EvaluationSettings(source="devices"), "best", "classification", False, 9, "mean")
    found = {1: DeviceScores(devices=1, samples=10, mean={"accuracy": 0.5})}
    first, second = (msgspec.structs.replace(entry, on_devices=found) for entry in rounds(0.5, 0.5))
    assert JudgedRounds(settings, [first, second]).best() is None
    mean = msgspec.structs.replace(second, answer="mean")
    assert JudgedRounds(settings, [first, mean]).best() == (1, 0.5)
