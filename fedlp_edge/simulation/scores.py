"""How good a version of the global model is: parts of the test set, judged by many workers, put together.

Right answers are counted by class. A device's personalised test set is the test set weighted by the classes that the
device holds, so its accuracy follows from those counts and costs nothing more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedlp_edge.core.exit_counts import ExitCounts, merged
from fedlp_edge.simulation.engines.base import QueuedJob
from fedlp_edge.simulation.engines.jobs import EvaluatePart, PartEvaluated, PersonalHeadEvaluated

PART = 1024
"""Samples of one part: a whole number of batches, and small enough to fill the gap at the end of a round."""


@dataclass(frozen=True)
class ModelScores:
    """What a version of the model is worth.

    Attributes:
        accuracy: of each exit, by depth.
        loss: mean cross-entropy of each exit.
        ensemble: accuracy of the mean of the logits of the exits up to a depth.
        by_class: accuracy of each exit for each class, not a number for classes without a test sample.
    """

    accuracy: dict[int, float]
    loss: dict[int, float | None]
    ensemble: dict[int, float]
    by_class: dict[int, npt.NDArray[np.float64]]

    def personalised(self, depth: int, prior: npt.NDArray[np.float64]) -> float:
        """Accuracy of an exit on the test set weighted by a device's own classes."""
        return _weighted(self.by_class[depth], prior)


NOTHING = ModelScores({}, {}, {}, {})
"""Of a round that is not evaluated."""


def parts(version: int, depths: Sequence[int], samples: int, macs: int) -> list[QueuedJob]:
    """The work of judging a version.

    Args:
        version: of the weights.
        depths: exits to judge, shallowest first.
        samples: of the test set.
        macs: of one sample through the deepest exit.
    """
    jobs = []
    for start in range(0, samples, PART):
        stop = min(start + PART, samples)
        jobs.append(QueuedJob(EvaluatePart(version, tuple(depths), start, stop), cost=float(macs * (stop - start))))
    return jobs


def combine_scores(judged: Iterable[PartEvaluated]) -> ModelScores:
    """Puts the parts together, in the order of the test set: the same sums whoever judged what."""
    ordered = sorted(judged, key=lambda part: part.start)
    if not ordered:
        return NOTHING
    counts = merged([part.counts for part in ordered])
    return ModelScores(
        accuracy=counts.accuracy(),
        loss=counts.mean_loss(),
        ensemble=counts.ensemble_accuracy(),
        by_class={depth: _by_class(counts, depth) for depth in counts.correct},
    )


def by_tier(
    verdict: ModelScores, depths: Mapping[str, int], numbers: Mapping[str, int], priors: npt.NDArray[np.float64]
) -> dict[int, float]:
    """Mean personalised accuracy of the devices of each depth, each with the exit of its depth.

    Args:
        verdict: of the global model.
        depths: of the devices; those whose exit was not judged are left out.
        numbers: row of each device in ``priors``.
        priors: share of each class in each device's samples.
    """
    tiers: dict[int, list[float]] = {}
    for device, depth in depths.items():
        if depth in verdict.by_class:
            tiers.setdefault(depth, []).append(verdict.personalised(depth, priors[numbers[device]]))
    return {depth: float(np.mean(shares)) for depth, shares in sorted(tiers.items())}


def own_by_tier(
    judged: Iterable[PersonalHeadEvaluated], numbers: Mapping[str, int], priors: npt.NDArray[np.float64]
) -> dict[int, float]:
    """Mean accuracy of devices by depth, each with its own head on the test set weighted by its own classes.

    Args:
        judged: in any order.
        numbers: row of each device in ``priors``.
        priors: share of each class in each device's samples.
    """
    tiers: dict[int, list[float]] = {}
    for device in sorted(judged, key=lambda one: one.device):
        shares = _by_class(device.counts, device.depth)
        tiers.setdefault(device.depth, []).append(_weighted(shares, priors[numbers[device.device]]))
    return {depth: float(np.mean(shares)) for depth, shares in sorted(tiers.items())}


def _by_class(counts: ExitCounts, depth: int) -> npt.NDArray[np.float64]:
    """Accuracy of an exit for each class, not a number for classes without a test sample."""
    with np.errstate(invalid="ignore"):
        shares: npt.NDArray[np.float64] = np.array(counts.correct[depth]) / np.array(counts.samples)
    return shares


def _weighted(by_class: npt.NDArray[np.float64], prior: npt.NDArray[np.float64]) -> float:
    """Accuracy where each class has a device's own share; classes without a test sample do not count."""
    known = ~np.isnan(by_class)
    weights = prior[: len(known)] * known
    total = weights.sum()
    return float((weights * np.nan_to_num(by_class)).sum() / total) if total else 0.0
