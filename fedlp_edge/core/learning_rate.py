"""Computes what of the training depends on the round, which the coordinator sends to devices with their tasks.

Step size and factor of the distillation are functions of the settings and of two numbers of rounds alone, so a
restarted run goes on with the same ones. In buffered mode, where devices work for different versions of the model at
once, the round is the version that a task starts from.
"""

from __future__ import annotations

import math

import msgspec

from fedlp_edge.core.settings import ObjectiveSettings, TrainingSettings


def learning_rate(training: TrainingSettings, round: int, rounds: int) -> float:
    """Returns the step size of a round.

    With W warm-up rounds, round r of them has ``lr * r / (W + 1)``. After them, with t = r - W - 1 rounds done,

    - ``constant`` has ``lr``;
    - ``cosine`` has ``min_lr + (lr - min_lr) * (1 + cos(pi * t / (rounds - W))) / 2`` (Loshchilov and Hutter,
      arXiv 1608.03983, without restarts), and rounds beyond the last one keep the last one's;
    - ``step`` has ``lr * step_factor ** (t // step_every)``.

    Args:
        training: Schedule and its numbers.
        round: Number of the round, from 1.
        rounds: Rounds of the run.
    """
    warmup, lr = training.warmup_rounds, training.lr
    if round <= warmup:
        return lr * round / (warmup + 1)
    done = round - warmup - 1
    if training.schedule == "cosine":
        planned = max(1, rounds - warmup)
        fallen = (1 + math.cos(math.pi * min(done, planned - 1) / planned)) / 2
        return training.min_lr + (lr - training.min_lr) * fallen
    if training.schedule == "step":
        # A step size of 0 would be no valid setting, and 1e-30 changes no float32 weight.
        return max(1e-30, lr * training.step_factor ** (done // training.step_every))
    return lr


def distillation_factor(objective: ObjectiveSettings, round: int) -> float:
    """Returns the factor of the distillation in a round.

    With a ramp-up over R rounds it is ``distillation * exp(-5 (1 - t / R)^2)`` with t = round - 1 < R (Laine and Aila,
    arXiv 1610.02242, section 2.1, as the code of DepthFL's authors does), because exits that know nothing yet have
    nothing to teach.

    Args:
        objective: Full factor and rounds of its ramp-up.
        round: Number of the round, from 1.
    """
    done, rampup = round - 1, objective.distillation_rampup
    if done >= rampup:
        return objective.distillation
    return objective.distillation * math.exp(-5 * (1 - done / rampup) ** 2)


def training_in_round(training: TrainingSettings, round: int, rounds: int) -> TrainingSettings:
    """Returns the settings of one round, with its step size and its factor of the distillation for all of it."""
    objective = training.objective
    if objective.distillation_rampup:
        factor = distillation_factor(objective, round)
        objective = msgspec.structs.replace(objective, distillation=factor, distillation_rampup=0)
    return msgspec.structs.replace(
        training,
        objective=objective,
        lr=learning_rate(training, round, rounds),
        schedule="constant",
        warmup_rounds=0,
        min_lr=0.0,
        step_every=0,
    )
