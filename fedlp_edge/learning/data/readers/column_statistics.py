"""This module computes the statistics of features by which a fleet agrees on their normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fedlp_edge.core.standardisation.column_sums import ColumnSums


def column_sums(x: npt.NDArray[Any], names: tuple[str, ...]) -> ColumnSums:
    """Returns the statistics of each feature over samples and, in windows, over time.

    Args:
        x: Samples, [N, F] or [N, F, ...].
        names: Names of the F features.
    """
    values = np.asarray(x, np.float64).reshape(len(x), x.shape[1], -1)
    count = len(values) * values.shape[2]
    mean = values.mean(axis=(0, 2))
    deviations = np.square(values - mean[:, None]).sum(axis=(0, 2))
    return ColumnSums(names=names, count=count, mean=tuple(mean.tolist()), deviations=tuple(deviations.tolist()))
