"""Names of the metrics that a run can be judged by, and whether more or less of each is better.

A task of a user's own may have metrics of other names; its owner then says which way is better.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

Better = Literal["higher", "lower"]

BETTER: Mapping[str, Better] = MappingProxyType(
    {
        "accuracy": "higher",
        "balanced_accuracy": "higher",
        "subset_accuracy": "higher",
        "macro_f1": "higher",
        "micro_f1": "higher",
        "roc_auc": "higher",
        "average_precision": "higher",
        "r2": "higher",
        "loss": "lower",
        "mae": "lower",
        "mse": "lower",
        "rmse": "lower",
    }
)
"""Which way each metric is better."""
