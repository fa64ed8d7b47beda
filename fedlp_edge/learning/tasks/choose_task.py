"""This module makes the task that model settings name."""

from __future__ import annotations

from collections.abc import Collection

from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import ModelError
from fedlp_edge.learning.tasks.anomaly import Anomaly
from fedlp_edge.learning.tasks.base import LearningTask
from fedlp_edge.learning.tasks.classification import Classification
from fedlp_edge.learning.tasks.multi_label import MultiLabel
from fedlp_edge.learning.tasks.own_task import OwnTask
from fedlp_edge.learning.tasks.regression import Regression


def make_task(settings: ModelSettings, outputs: int, allow_models: Collection[str] | None = ()) -> LearningTask:
    """Makes the task that model settings name.

    Args:
        settings: Settings of the model, with the names and numbers that the fleet has agreed on.
        outputs: Number of the model's outputs.
        allow_models: Names ``module:callable`` that may be imported and called; None allows any name.

    Raises:
        ModelError: The task is code of the user's own that is not allowed, or that does not work.
    """
    match settings.task:
        case "classification":
            return Classification(outputs)
        case "multi-label":
            return MultiLabel()
        case "regression":
            return Regression(settings.target_mean, settings.target_std)
        case "anomaly":
            return Anomaly()
    if allow_models is not None and settings.task not in allow_models:
        raise ModelError(
            f"the task {settings.task} is code of its own, which this device does not run unasked; "
            f"start it with --allow-model {settings.task} if you trust it"
        )
    return OwnTask(settings.task, outputs)
