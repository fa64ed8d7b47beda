from __future__ import annotations

import pytest

from fedlp_edge.core.learning_rate import learning_rate, training_in_round
from fedlp_edge.core.settings import ObjectiveSettings, TrainingSettings


def rates(rounds: int = 6, **settings: object) -> list[float]:
    training = TrainingSettings(lr=0.8, **settings)  # type: ignore[arg-type]
    return [learning_rate(training, round, rounds) for round in range(1, rounds + 1)]


def test_constant_schedule_keeps_the_rate() -> None:
    assert rates() == [0.8] * 6


def test_cosine_schedule_falls_towards_the_least_rate() -> None:
    # cos(0), cos(45), cos(90) and cos(135 degrees).
    assert rates(4, schedule="cosine") == pytest.approx([0.8, 0.68284271, 0.4, 0.11715729])
    assert rates(4, schedule="cosine", min_lr=0.2) == pytest.approx([0.8, 0.71213203, 0.5, 0.28786797])


def test_step_schedule_falls_by_a_factor_every_few_rounds() -> None:
    assert rates(schedule="step", step_every=2, step_factor=0.5) == [0.8, 0.8, 0.4, 0.4, 0.2, 0.2]


def test_warmup_rises_to_the_rate_before_the_schedule_begins() -> None:
    assert rates(5, warmup_rounds=3) == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8])
    assert rates(6, warmup_rounds=3, schedule="step", step_every=1, step_factor=0.5)[3:] == [0.8, 0.4, 0.2]
    assert rates(5, warmup_rounds=1, schedule="cosine")[1:] == pytest.approx([0.8, 0.68284271, 0.4, 0.11715729])


def test_rounds_beyond_the_last_one_keep_its_rate() -> None:
    training = TrainingSettings(lr=0.8, schedule="cosine")
    assert learning_rate(training, 9, 4) == learning_rate(training, 4, 4)


def test_rate_stays_a_valid_setting_when_it_has_fallen_to_nothing() -> None:
    training = TrainingSettings(lr=0.8, schedule="step", step_every=1, step_factor=1e-9)
    assert training_in_round(training, 500, 500).lr > 0


def test_training_in_round_says_the_rate_of_the_round_alone() -> None:
    training = TrainingSettings(lr=0.8, schedule="cosine", warmup_rounds=1, min_lr=0.5, epochs=3)
    assert training_in_round(training, 1, 4) == TrainingSettings(lr=0.4, epochs=3)


def test_distillation_rises_over_its_first_rounds() -> None:
    training = TrainingSettings(objective=ObjectiveSettings(distillation=2.0, distillation_rampup=2))
    rounds = [training_in_round(training, round, 4).objective for round in (1, 2, 3, 4)]
    # exp(-5), exp(-5 / 4), and from then on all of it.
    assert [of_round.distillation for of_round in rounds] == pytest.approx([0.013475894, 0.573009594, 2.0, 2.0])
    assert {of_round.distillation_rampup for of_round in rounds} == {0}
