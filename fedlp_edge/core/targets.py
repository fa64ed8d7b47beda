"""This module names the tasks that a fleet can learn, and what the targets y of their samples are.

What reads data asks only for the kind of the targets, so that a new task needs no new reader.
"""

from __future__ import annotations

import re
from typing import Literal

TargetKind = Literal["class", "labels", "values", "none"]
"""Kinds of targets. ``class``: one class number per sample, int64 [N]. ``labels``: 0 or 1 for each of K labels, float32
[N, K]. ``values``: K numbers, float32 [N, K]. ``none``: no target is learned; labels, if there are any, are int64 [N]
with 0 for a normal sample and another number for an anomalous one, and all are 0 without labels."""

BUILT_IN_TASKS: dict[str, TargetKind] = {
    "classification": "class",
    "multi-label": "labels",
    "regression": "values",
    "anomaly": "none",
}
"""Kind of the targets of each task that FedLP Edge contains, by the task's name."""

DEFAULT_METRICS: dict[str, str] = {
    "classification": "accuracy",
    "multi-label": "macro_f1",
    "regression": "rmse",
    "anomaly": "loss",
}
"""Name of the metric by which models of a built-in task are compared unless the configuration names another."""

OWN_TASK = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
"""Name of a task of the user's own, ``module:callable``; its object says the kind of its targets."""


def check_task(name: str) -> None:
    """Checks the name of a task.

    Raises:
        ValueError: It is neither a built-in task nor ``module:callable``.
    """
    if name not in BUILT_IN_TASKS and not OWN_TASK.fullmatch(name):
        raise ValueError(f'unknown task "{name}": use {", ".join(BUILT_IN_TASKS)}, or module:callable')


def default_metric(task: str) -> str:
    """Returns the name of the metric by which models of a task are compared; the loss for a task of a user's own."""
    return DEFAULT_METRICS.get(task, "loss")
