"""This module keeps a part of a device's samples out of training, on which the device judges the global model.

A sample is held out by a hash of what it is, never by its position or a draw: it stays on its side when samples are
added, removed or reordered, and equal samples are always on the same side, on every device. Of a time series, the last
part is held out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from fedlp_edge.learning.data.dataset import Dataset

MIN_TRAINED = 2
"""Samples that training needs; where fewer would be left, nothing is held out."""


def split_holdout(data: Dataset, share: float) -> tuple[Dataset, Dataset | None]:
    """Splits the samples of a device into those that it trains on and those that it judges models on.

    Args:
        data: All samples of the device.
        share: Share of the samples to hold out, as far as hashes come out evenly; 0 for none.

    Returns:
        The samples to train on, and the held-out ones; None if there are none.
    """
    if not share:
        return data, None
    trained, held = data.store.holdout(share)
    if not held.any() or int(trained.sum()) < MIN_TRAINED:
        return data, None
    return data.subset(torch.from_numpy(np.flatnonzero(trained))), data.subset(torch.from_numpy(np.flatnonzero(held)))
