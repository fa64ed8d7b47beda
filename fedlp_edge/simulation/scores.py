"""This module combines the evaluations of parts of the test set into the scores of a global model.

Where a task has classes, correct predictions are counted by class. A device's personalised test set is the test set
weighted by the device's classes, so its accuracy follows from these counts without further computation. For other tasks
all devices have the same test set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fedlp_edge.core.metrics.answers import AnswerMode
from fedlp_edge.core.metrics.exit_sums import ExitSums, mean_losses, merged
from fedlp_edge.core.metrics.metric_sums import MetricSums
from fedlp_edge.core.metrics.model_scores import NO_SCORES, ExitScores, ModelScores, model_scores
from fedlp_edge.core.metrics.task_metrics import mean_loss, metrics_of
from fedlp_edge.core.targets import default_metric
from fedlp_edge.simulation.engines.base import QueuedJob
from fedlp_edge.simulation.engines.jobs import EvaluatePart, MetricsComputed, PartEvaluated, PersonalHeadEvaluated

PART_SAMPLES = 1024
"""Samples of one part: a multiple of the batch size, and small enough to fill idle workers at the end of a round."""


def parts(version: int, depths: Sequence[int], samples: int, macs: int) -> list[QueuedJob]:
    """Returns the jobs that evaluate a version of the global model.

    Args:
        version: Version of the model weights.
        depths: Depths of the exits to evaluate, shallowest first.
        samples: Number of samples in the test set.
        macs: Multiply-accumulate operations of one sample through the deepest exit.
    """
    jobs = []
    for start in range(0, samples, PART_SAMPLES):
        stop = min(start + PART_SAMPLES, samples)
        jobs.append(QueuedJob(EvaluatePart(version, tuple(depths), start, stop), cost=float(macs * (stop - start))))
    return jobs


def summed(judged: Iterable[PartEvaluated]) -> ExitSums:
    """Adds up the parts in the order of the test set, so that sums do not depend on which worker did which part.

    Args:
        judged: Results of the parts, in any order; one at least.
    """
    return merged([part.sums for part in sorted(judged, key=lambda part: part.start)])


def combine_scores(
    judged: Sequence[PartEvaluated],
    task: str = "classification",
    own: MetricsComputed | None = None,
    answer: AnswerMode = "exit",
) -> ModelScores:
    """Combines the parts of an evaluation.

    Args:
        judged: Results of the parts, in any order.
        task: Name of the task.
        own: What a task of the user's own makes of them; None for a task that FedLP Edge contains.
        answer: What models answer with.
    """
    if not judged:
        return NO_SCORES
    sums = summed(judged)
    of_exits = own.metrics if own else {depth: metrics_of(task, exit) or {} for depth, exit in sums.exits.items()}
    ensembles = own.ensembles if own else {depth: metrics_of(task, e) or {} for depth, e in sums.ensembles.items()}
    return model_scores(
        answer,
        default_metric(task),
        ExitScores(of_exits, mean_losses(sums.exits), sums.exits),
        ExitScores(ensembles, mean_losses(sums.ensembles), sums.ensembles),
    )


def by_tier(
    verdict: ModelScores,
    depths: Mapping[str, int],
    numbers: Mapping[str, int],
    priors: npt.NDArray[np.float64],
    task: str = "classification",
) -> dict[int, float]:
    """Returns the mean personalised accuracy of the devices by depth, each with the model of its depth.

    Args:
        verdict: Scores of the global model.
        depths: Depth by device id; devices whose depth was not evaluated are left out.
        numbers: Row of each device in ``priors``, by device id.
        priors: Share of each class in each device's samples, float64 [devices, classes].
        task: Name of the task.
    """
    by_class = {depth: _by_class(of_depth, task) for depth, of_depth in verdict.sums.items()}
    tiers: dict[int, list[float]] = {}
    for device, depth in depths.items():
        if depth in by_class:
            tiers.setdefault(depth, []).append(_weighted(by_class[depth], priors[numbers[device]]))
    return {depth: float(np.mean(shares)) for depth, shares in sorted(tiers.items())}


def own_by_tier(
    judged: Iterable[PersonalHeadEvaluated],
    numbers: Mapping[str, int],
    priors: npt.NDArray[np.float64],
    task: str = "classification",
) -> dict[int, float]:
    """Returns the mean personalised accuracy of the devices by depth, each with its personal head.

    Args:
        judged: Results of the personal heads, in any order.
        task: Name of the task.
        numbers: Row of each device in ``priors``, by device id.
        priors: Share of each class in each device's samples, float64 [devices, classes].
    """
    tiers: dict[int, list[float]] = {}
    for device in sorted(judged, key=lambda one: one.device):
        shares = _by_class(device.sums.exits[device.depth], task)
        tiers.setdefault(device.depth, []).append(_weighted(shares, priors[numbers[device.device]]))
    return {depth: float(np.mean(shares)) for depth, shares in sorted(tiers.items())}


def _by_class(sums: MetricSums, task: str) -> npt.NDArray[np.float64]:
    """Accuracy of an exit by class, not a number for classes without a test sample; of another task its metric."""
    if task != "classification":
        of_task = metrics_of(task, sums)
        if of_task is None:  # a task of the user's own, of which every worker knows the loss
            of_task = {} if (loss := mean_loss(sums)) is None else {"loss": loss}
        return np.array([of_task.get(default_metric(task), np.nan)])
    with np.errstate(invalid="ignore"):
        shares: npt.NDArray[np.float64] = np.array(sums["correct"]) / np.array(sums["support"])
    return shares


def _weighted(by_class: npt.NDArray[np.float64], prior: npt.NDArray[np.float64]) -> float:
    """Returns the accuracy weighted by a device's share of each class, without classes that have no test sample."""
    # A model may have more classes than the data, of which no device has a sample.
    shared = min(len(by_class), len(prior))
    by_class, prior = by_class[:shared], prior[:shared]
    weights = prior * ~np.isnan(by_class)
    total = weights.sum()
    return float((weights * np.nan_to_num(by_class)).sum() / total) if total else 0.0
