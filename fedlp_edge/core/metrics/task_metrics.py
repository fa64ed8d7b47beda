"""This module computes the metrics of each built-in task from sums, which batches, parts and devices have added up.

Nothing but the sums is needed, so a coordinator that loads neither PyTorch nor scikit-learn judges a hundred devices in
a moment. The definitions are those of scikit-learn; where a class or label does not occur, an average leaves it out.

The module also says how scores are binned, on which ``roc_auc`` and the threshold of an anomaly detector are computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from fedlp_edge.core.metrics.metric_sums import MetricSums

Floats = npt.NDArray[np.float64]

SCORE_BINS = 64
"""Bins of a probability's log-odds."""

MAX_LOG_ODDS = 8.0
"""Largest log-odds that has a bin of its own; the outermost bins hold everything beyond."""

ERROR_BINS = 512
"""Bins of the decimal logarithm of a reconstruction error."""

ERROR_DECADES = (-8.0, 8.0)
"""Decimal logarithms between which reconstruction errors have bins of their own."""

VALUE_BINS = 32
"""Bins of a target, and of its prediction, in the picture of predicted against true values."""

VALUE_RANGE = 4.0
"""Standard deviations from the mean up to which a target has bins of its own."""


def metrics_of(task: str, sums: MetricSums) -> dict[str, float] | None:
    """Returns the metrics of a built-in task by name; None for a task of a user's own, whose code knows them.

    A metric that the sums do not define is missing, and so is one that is no finite number.

    Args:
        task: Name of the task.
        sums: Sums of all samples that are judged together.
    """
    if task not in _METRICS:
        return None
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in sums.items()}
    if not arrays:
        return {}
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        metrics = _METRICS[task](arrays)
    loss = mean_loss(sums)
    metrics |= {} if loss is None else {"loss": loss}
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}


def accuracies(metrics: Mapping[int, Mapping[str, float]]) -> dict[int, float]:
    """Returns the accuracy by depth from metrics by depth and name; empty for a task without accuracy."""
    return {depth: by_name["accuracy"] for depth, by_name in metrics.items() if "accuracy" in by_name}


def mean_loss(sums: MetricSums) -> float | None:
    """Returns the mean loss of the samples; None if there are none, or if it is too large for a number."""
    samples, loss = sums["samples"][0], sums["loss"][0]
    mean = loss / samples if samples else math.inf
    return mean if abs(mean) < LARGEST else None


LARGEST = 1e30
"""Absolute value from which a mean counts as no number: training has diverged."""


def score_quantile(sums: MetricSums, quantile: float) -> float | None:
    """Returns the reconstruction error below which a share of the normal samples lies; None without normal samples.

    Args:
        sums: Sums of the task ``anomaly``.
        quantile: Share of the normal samples, 0 to 1.
    """
    counts = np.asarray(sums["normal"], dtype=np.float64)
    total = float(counts.sum())
    if not total:
        return None
    reached = np.cumsum(counts)
    place = int(np.searchsorted(reached, quantile * total))
    place = min(place, len(counts) - 1)
    before = float(reached[place] - counts[place])
    within = (quantile * total - before) / float(counts[place]) if counts[place] else 1.0
    low, high = ERROR_DECADES
    return float(10 ** (low + (place + min(max(within, 0.0), 1.0)) * (high - low) / len(counts)))


def _classification(sums: Mapping[str, Floats]) -> dict[str, float]:
    support, predicted, correct = sums["support"], sums["predicted"], sums["correct"]
    occurs, named = support > 0, support + predicted > 0
    metrics = {
        "accuracy": float(correct.sum() / support.sum()),
        "balanced_accuracy": _mean(correct[occurs] / support[occurs]),
        "macro_f1": _mean(2 * correct[named] / (support + predicted)[named]),
    }
    return metrics | _auc(sums)


def _multi_label(sums: Mapping[str, Floats]) -> dict[str, float]:
    hits, false_alarms, misses = sums["true_positives"], sums["false_positives"], sums["false_negatives"]
    answered = 2 * hits + false_alarms + misses
    by_label = 2 * hits / answered
    metrics = {
        "subset_accuracy": float(sums["exact"][0] / sums["samples"][0]),
        "macro_f1": _mean(by_label),
        "micro_f1": float(2 * hits.sum() / answered.sum()),
    }
    return metrics | _auc(sums) | _numbered("f1", by_label)


def _regression(sums: Mapping[str, Floats]) -> dict[str, float]:
    samples = float(sums["samples"][0])
    spread = sums["squares"] - np.square(sums["deviations"]) / samples
    by_target = {
        "mae": sums["absolute_errors"] / samples,
        "rmse": np.sqrt(sums["squared_errors"] / samples),
        "r2": np.where(spread > 0, 1 - sums["squared_errors"] / spread, np.nan),
    }
    metrics = {name: _mean(values) for name, values in by_target.items()}
    metrics["mse"] = _mean(sums["squared_errors"] / samples)
    for name, values in by_target.items():
        metrics |= _numbered(name, values)
    return metrics


def _anomaly(sums: Mapping[str, Floats]) -> dict[str, float]:
    (auc,) = _areas(sums["anomalous"][None], sums["normal"][None])
    return {"roc_auc": float(auc)}


_METRICS: Mapping[str, Callable[[Mapping[str, Floats]], dict[str, float]]] = MappingProxyType(
    {
        "classification": _classification,
        "multi-label": _multi_label,
        "regression": _regression,
        "anomaly": _anomaly,
    }
)


def _mean(values: Floats) -> float:
    """Returns the mean of the values that are defined; not a number if none is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _numbered(name: str, values: Floats) -> dict[str, float]:
    """Returns the metric of every label or target, counted from 1; nothing for a single one."""
    return {f"{name}_{number}": float(value) for number, value in enumerate(values, start=1)} if len(values) > 1 else {}


def _auc(sums: Mapping[str, Floats]) -> dict[str, float]:
    if "positives" not in sums:
        return {}
    return {
        "roc_auc": _mean(_areas(sums["positives"].reshape(-1, SCORE_BINS), sums["negatives"].reshape(-1, SCORE_BINS)))
    }


def _areas(positives: Floats, negatives: Floats) -> Floats:
    """Returns the area under each ROC curve from histograms by rising score, [rows, bins]; equal bins count half."""
    below = np.cumsum(negatives, axis=1) - negatives / 2
    areas: Floats = (positives * below).sum(axis=1) / (positives.sum(axis=1) * negatives.sum(axis=1))
    return areas
