"""This module turns right answers and losses of a model's exits into accuracies and mean losses.

Right answers are counted by class: on a test set that is weighted by the classes of a device, its accuracy follows from
these counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec


class ExitCounts(msgspec.Struct, frozen=True):
    """What exits answered to samples.

    Attributes:
        samples: Number of samples by class.
        correct: Right answers by class, by depth.
        loss: Summed cross-entropy, by depth.
        ensemble_correct: Right answers of the mean of the logits of the exits up to a depth.
        ensemble_loss: Summed cross-entropy of that mean.
    """

    samples: tuple[int, ...]
    correct: dict[int, tuple[int, ...]]
    loss: dict[int, float]
    ensemble_correct: dict[int, int]
    ensemble_loss: dict[int, float]

    @property
    def total(self) -> int:
        """Number of samples."""
        return sum(self.samples)

    def accuracy(self) -> dict[int, float]:
        """Share of right answers of each exit, 0 to 1."""
        return {depth: sum(by_class) / self.total for depth, by_class in self.correct.items()}

    def ensemble_accuracy(self) -> dict[int, float]:
        """Share of right answers of the ensemble of exits up to a depth, 0 to 1."""
        return {depth: correct / self.total for depth, correct in self.ensemble_correct.items()}

    def mean_loss(self) -> dict[int, float | None]:
        """Mean cross-entropy of each exit, see `finite_mean`."""
        return finite_mean(self.loss, self.total)

    def mean_ensemble_loss(self) -> dict[int, float | None]:
        """Mean cross-entropy of the ensemble of exits up to a depth, see `finite_mean`."""
        return finite_mean(self.ensemble_loss, self.total)


def finite_mean(sums: dict[int, float], samples: int) -> dict[int, float | None]:
    """Sums over samples as means; None for what is no finite number, of which JSON knows none."""
    means = {depth: value / samples for depth, value in sums.items()}
    return {depth: mean if math.isfinite(mean) else None for depth, mean in means.items()}


def merged(parts: Sequence[ExitCounts]) -> ExitCounts:
    """Counts of all parts of a data set, added up in the order in which they are given.

    Args:
        parts: Counts of the same depths; one at least.
    """
    depths = tuple(parts[0].correct)
    return ExitCounts(
        samples=_by_class([part.samples for part in parts]),
        correct={depth: _by_class([part.correct[depth] for part in parts]) for depth in depths},
        loss={depth: sum(part.loss[depth] for part in parts) for depth in depths},
        ensemble_correct={depth: sum(part.ensemble_correct[depth] for part in parts) for depth in depths},
        ensemble_loss={depth: sum(part.ensemble_loss[depth] for part in parts) for depth in depths},
    )


def _by_class(counts: list[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*counts, strict=True)))
