"""This module formats bytes, times and shares for people, in the same way in every report."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

from fedlp_edge.core.device_scores import DeviceScores
from fedlp_edge.core.metrics.answers import AnswerMode

UNTRAINED = "no device has this depth"
"""Text in place of the accuracy of an exit that no device trains."""

ANSWERING: dict[AnswerMode, str] = {"exit": "exit", "mean": "exits up to"}
"""Title of the column of depths, by what the models answer with: the exit of a depth, or the mean of those up to it."""

_MAIN = ("accuracy", "macro_f1", "rmse", "roc_auc")
"""Metrics that stand for all others, if a task has one of them."""

_SHARES = frozenset({"accuracy", "balanced_accuracy", "subset_accuracy", "macro_f1", "micro_f1"})
"""Metrics that are shown in per cent."""

_LABELS: Mapping[str, str] = MappingProxyType(
    {
        "macro_f1": "macro F1",
        "micro_f1": "micro F1",
        "roc_auc": "ROC AUC",
        "r2": "R²",
        "mae": "MAE",
        "mse": "MSE",
        "rmse": "RMSE",
    }
)
"""Names of metrics for people, where they are not the words of the name itself."""

_SPARKS = "▁▂▃▄▅▆▇█"


def format_bytes(count: float) -> str:
    """Formats ``1536`` as ``1.5 kB``, in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 999.5 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" or abs(count) >= 99.95 else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("the last unit takes everything")


def format_seconds(seconds: float) -> str:
    """Formats ``75.3`` as ``1:15`` and ``4.26`` as ``4.3 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def format_share(share: float | None) -> str:
    """Formats ``0.9131`` as ``91.3 %``, and None as a dash."""
    return "-" if share is None else f"{100 * share:.1f} %"


def metric_label(name: str) -> str:
    """Formats ``rmse`` as ``RMSE`` and ``balanced_accuracy`` as ``balanced accuracy``."""
    return _LABELS.get(name, name.replace("_", " "))


def is_share(metric: str) -> bool:
    """Returns whether a metric is shown in per cent."""
    return metric in _SHARES


def main_metric(metrics: Collection[str], wanted: str = "") -> str:
    """Returns the name of the metric that stands for all of them in one line; empty if there is none.

    Args:
        metrics: Names of the metrics that there are.
        wanted: Name of the metric that a run is judged by, which stands for the others if it is there.
    """
    if wanted in metrics:
        return wanted
    return next((name for name in _MAIN if name in metrics), next(iter(metrics), ""))


def format_values(metric: str, values: Mapping[int, float]) -> str:
    """Formats values by depth as ``accuracy depth 1: 80.2 %, depth 2: 91.0 %``."""
    by_depth = (f"depth {depth}: {format_metric(metric, value)}" for depth, value in sorted(values.items()))
    return f"{metric_label(metric)} {', '.join(by_depth)}"


def format_metric(name: str, value: float | None) -> str:
    """Formats a share as ``91.3 %``, another metric as ``0.0421``, and None as a dash."""
    if value is None or name in _SHARES:
        return format_share(value)
    return f"{value:.4g}"


def format_scores(scores: DeviceScores, metric: str = "") -> str:
    """Formats a metric as ``91.3 % ± 2.1 % (worst tenth 88.0 %)``, and of a single device as ``91.3 %``.

    An accuracy is not named, others are.

    Args:
        scores: What devices measured.
        metric: Name of the metric that a run is judged by; another one stands for it if devices did not measure it.
    """
    name = main_metric(scores.mean, metric)
    if not name:
        return "-"
    label = "" if name == "accuracy" else f"{metric_label(name)} "
    text = f"{label}{format_metric(name, scores.mean[name])}"
    if scores.devices == 1:
        return text
    text += f" ± {format_metric(name, scores.spread.get(name, 0.0))}"
    return text + (f" (worst tenth {format_metric(name, scores.worst[name])})" if name in scores.worst else "")


def sparkline(values: Iterable[float], width: int = 24, top: float = 1.0) -> str:
    """Draws the last ``width`` values between 0 and ``top`` as one block character each."""
    recent = [value / top if top else 0.0 for value in list(values)[-width:]]
    return "".join(_SPARKS[min(len(_SPARKS) - 1, max(0, int(share * len(_SPARKS))))] for share in recent)


def depth_bar(depth: int, depths: int) -> str:
    """Draws depth 3 of 4 as ``▮▮▮▯``."""
    return "▮" * depth + "▯" * max(0, depths - depth)
