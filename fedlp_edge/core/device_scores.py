"""This module sums up what the devices of a fleet have measured on their own held-out samples.

A mean alone hides devices that the model serves badly. So beside the metric of all held-out samples together stand the
spread over the devices and the mean of the worst tenth of them. What devices report is not trusted: counts that no
samples can have are left out.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from fedlp_edge.core.metric_names import BETTER, Better
from fedlp_edge.core.metrics.metric_sums import MetricSums, added
from fedlp_edge.core.metrics.task_metrics import mean_loss, metrics_of, score_quantile
from fedlp_edge.core.targets import BUILT_IN_TASKS

WORST_SHARE = 10
"""One device of so many is among the worst, and at least one of all."""

DISPENSABLE = frozenset({"positives", "negatives", "confusion", "pairs"})
"""Large arrays of built-in tasks that only metrics and pictures beside the main ones need."""

_SIGNED = frozenset({"deviations"})
"""Sums of built-in tasks that may be below 0."""

_AMOUNTS = frozenset({"loss", "squares", "absolute_errors", "squared_errors", *_SIGNED})
"""Sums of built-in tasks that are no counts of samples."""

_BESIDE = frozenset({"anomalous"})
"""Counts of samples that are not among ``samples``, which are what the loss is the mean of."""

_SHARES = frozenset(
    {"accuracy", "balanced_accuracy", "subset_accuracy", "macro_f1", "micro_f1", "roc_auc", "average_precision"}
)
"""Metrics between 0 and 1."""


class HeldOutScores(msgspec.Struct, frozen=True):
    """What a device has measured of one exit on its held-out samples.

    Attributes:
        sums: Sums of the task, ``samples`` and ``loss`` among them.
        metrics: Metrics by name; only of a task of the user's own, since others follow from the sums.
    """

    sums: MetricSums
    metrics: dict[str, float] = {}

    @property
    def samples(self) -> int:
        """Number of held-out samples."""
        return int(self.sums["samples"][0])


class DeviceScores(msgspec.Struct, frozen=True, kw_only=True):
    """How well an exit does on the devices' own held-out samples.

    Attributes:
        devices: Number of devices that measured it.
        samples: Number of their held-out samples together.
        mean: Metrics of all these samples together, by name; of a task of the user's own the means of the devices'
            metrics, weighted by their samples.
        spread: Standard deviation of each metric over the devices, by name.
        worst: Mean of each metric over the worst tenth of the devices, by name.
    """

    devices: int
    samples: int
    mean: dict[str, float] = {}
    spread: dict[str, float] = {}
    worst: dict[str, float] = {}


Reports = Mapping[str, Mapping[int, HeldOutScores]]
"""What devices have measured, by device and depth."""


def problem_of(task: str, scores: HeldOutScores, most_samples: int) -> str | None:
    """Returns why no samples can have such sums; None if some can.

    Args:
        task: Name of the task.
        scores: Scores of one exit, as a device reports them; every number is finite.
        most_samples: Number of samples that the device said that it has.
    """
    sums = scores.sums
    samples = sums.get("samples", ())
    if len(samples) != 1 or not 1 <= samples[0] <= most_samples or samples[0] != int(samples[0]):
        return f"it does not say on how many of its {most_samples} samples the model was judged"
    if len(sums.get("loss", ())) != 1:
        return "the loss of the held-out samples is missing"
    return _problem_of_counts(task, sums, samples[0], most_samples) if task in BUILT_IN_TASKS else None


def _problem_of_counts(task: str, sums: MetricSums, samples: float, most_samples: int) -> str | None:
    if any(min(values, default=0.0) < 0 for name, values in sums.items() if name not in _SIGNED):
        return "a count of held-out samples is below 0"
    if any(max(values, default=0.0) > samples for name, values in sums.items() if name not in _AMOUNTS | _BESIDE):
        return f"more held-out samples were counted than the {samples:.0f} that there are"
    if any(samples + sum(sums.get(name, ())) > most_samples for name in _BESIDE):
        return f"more held-out samples were counted than the {most_samples} that the device has"
    if "support" in sums and sum(sums["support"]) != samples:
        return f"the held-out samples of the classes are not {samples:.0f} together"
    return _problem_of_metrics(task, sums)


def _problem_of_metrics(task: str, sums: MetricSums) -> str | None:
    try:
        metrics = metrics_of(task, sums) or {}
    except (KeyError, ValueError):
        return f"these are not the sums of the task {task}"
    if wrong := [name for name, value in metrics.items() if name in _SHARES and not 0 <= value <= 1]:
        return f"{wrong[0]} of held-out samples is {metrics[wrong[0]]:g}, not between 0 and 1"
    return None


def fleet_scores(task: str, reports: Reports, better: Mapping[str, Better] = BETTER) -> dict[int, DeviceScores]:
    """Sums up what devices have measured, by depth.

    Args:
        task: Name of the task.
        reports: What each device has measured; ``problem_of`` found nothing wrong with it.
        better: Which way each metric is better; of others there is no worst tenth.
    """
    return {depth: _of_exit(task, found, better) for depth, found in _by_depth(reports).items()}


def summed_reports(reports: Reports) -> dict[int, MetricSums]:
    """Adds up what devices have counted, by depth.

    Args:
        reports: What each device has measured; ``problem_of`` found nothing wrong with it.
    """
    return {depth: added(scores.sums for scores in found) for depth, found in _by_depth(reports).items()}


def anomaly_thresholds(quantile: float, reports: Reports) -> dict[int, float]:
    """Returns the score below which a share of the devices' normal held-out samples stays, by depth.

    Args:
        quantile: Share of the normal samples, 0 to 1.
        reports: What each device has measured of the task ``anomaly``.
    """
    found = {depth: score_quantile(sums, quantile) for depth, sums in summed_reports(reports).items()}
    return {depth: threshold for depth, threshold in found.items() if threshold is not None}


def _by_depth(reports: Reports) -> dict[int, list[HeldOutScores]]:
    """Returns the scores by depth, in the order of the devices, without those that cannot be added to the others'."""
    by_depth: dict[int, list[HeldOutScores]] = {}
    for _, report in sorted(reports.items()):
        for depth, scores in report.items():
            by_depth.setdefault(depth, []).append(scores)
    return {depth: _of_one_layout(found) for depth, found in sorted(by_depth.items())}


def worst_tenth(values: Sequence[float], better: Better) -> float:
    """Returns the mean of the worst tenth of some values, of one value at least.

    Args:
        values: Metric of each device.
        better: Whether a ``higher`` or a ``lower`` value is better.
    """
    worst = sorted(values, reverse=better == "lower")[: math.ceil(len(values) / WORST_SHARE)]
    return math.fsum(worst) / len(worst)


def median_losses(reports: Reports, least: int = 2) -> dict[int, float]:
    """Returns the median over the devices of their mean loss, by depth; of two values the lower, so none decides alone.

    Args:
        reports: What each device has measured.
        least: Fewest devices of a depth for which there is a median.

    Returns:
        Medians by depth, infinite where the loss of most devices is no number.
    """
    losses: dict[int, list[float]] = {}
    for report in reports.values():
        for depth, scores in report.items():
            loss = mean_loss(scores.sums)
            losses.setdefault(depth, []).append(math.inf if loss is None else loss)
    return {depth: statistics.median_low(found) for depth, found in sorted(losses.items()) if len(found) >= least}


def _of_exit(task: str, found: Sequence[HeldOutScores], better: Mapping[str, Better]) -> DeviceScores:
    by_device = [_metrics(task, scores) for scores in found]
    together = metrics_of(task, added(scores.sums for scores in found))
    if together is None:
        together = _weighted(by_device, [scores.samples for scores in found])
    values = {name: [one[name] for one in by_device if name in one] for name in together}
    return DeviceScores(
        devices=len(found),
        samples=sum(scores.samples for scores in found),
        mean=together,
        spread={name: statistics.pstdev(of_devices) for name, of_devices in values.items() if of_devices},
        worst={n: worst_tenth(of_devices, better[n]) for n, of_devices in values.items() if of_devices and n in better},
    )


def _metrics(task: str, scores: HeldOutScores) -> dict[str, float]:
    metrics = metrics_of(task, scores.sums)
    if metrics is not None:
        return metrics
    loss = mean_loss(scores.sums)
    return scores.metrics | ({} if loss is None else {"loss": loss})


def _weighted(by_device: Sequence[Mapping[str, float]], samples: Sequence[int]) -> dict[str, float]:
    """Returns the mean of each metric, weighted by samples, over the devices whose samples define it."""
    means: dict[str, float] = {}
    for name in dict.fromkeys(name for metrics in by_device for name in metrics):
        known = [(metrics[name], weight) for metrics, weight in zip(by_device, samples, strict=True) if name in metrics]
        means[name] = math.fsum(value * weight for value, weight in known) / sum(weight for _, weight in known)
    return means


def _of_one_layout(found: Sequence[HeldOutScores]) -> list[HeldOutScores]:
    """Leaves out who reports arrays of other names or lengths than most: they cannot be added to the others'.

    Arrays that are dispensable are left out unless all the others have them.
    """
    layouts = [_layout(scores, lambda name: name not in DISPENSABLE) for scores in found]
    usual, _ = max(Counter(layouts).items(), key=lambda item: (item[1], item[0]))
    alike = [scores for scores, layout in zip(found, layouts, strict=True) if layout == usual]
    extras = {_layout(scores, DISPENSABLE.__contains__) for scores in alike}
    if len(extras) == 1:
        return alike
    return [HeldOutScores({name: scores.sums[name] for name, _ in usual}, scores.metrics) for scores in alike]


def _layout(scores: HeldOutScores, counts: Callable[[str], bool]) -> tuple[tuple[str, int], ...]:
    """Returns names and lengths of some arrays."""
    return tuple((name, len(values)) for name, values in sorted(scores.sums.items()) if counts(name))
