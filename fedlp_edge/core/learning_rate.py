"""Computes the step size of each round, which the coordinator sends to devices with their tasks.

A step size is a function of the settings and of two numbers of rounds alone, so a restarted run goes on with the same
ones. In buffered mode, where devices work for different versions of the model at once, the round is the version that a
task starts from.
"""

from __future__ import annotations

import math

import msgspec

from fedlp_edge.core.settings import TrainingSettings


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


def training_in_round(training: TrainingSettings, round: int, rounds: int) -> TrainingSettings:
    """Returns the settings that a device trains with in one round, with the step size of that round for all of it."""
    return msgspec.structs.replace(
        training,
        lr=learning_rate(training, round, rounds),
        schedule="constant",
        warmup_rounds=0,
        min_lr=0.0,
        step_every=0,
    )
