"""This module keeps a part of a device's samples out of training, on which the device judges the global model.

A sample is held out by a hash of what it is, never by its position or a draw: it stays on its side when samples are
added, removed or reordered, and equal samples are always on the same side, on every device.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

if TYPE_CHECKING:
    from fedlp_edge.learning.data.dataset import Dataset

LEAST_TRAINED = 2
"""Samples that training needs; where fewer would be left, nothing is held out."""

Keys = npt.NDArray[np.uint64]
"""Hashes of samples, uint64 [N]."""


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
    held = is_held_out(data.sample_keys(), share)
    if not held.any() or len(held) - int(held.sum()) < LEAST_TRAINED:
        return data, None
    return data.subset(torch.from_numpy(np.flatnonzero(~held))), data.subset(torch.from_numpy(np.flatnonzero(held)))


def is_held_out(keys: Keys, share: float) -> npt.NDArray[np.bool_]:
    """Returns for each sample whether it is held out, bool [N].

    Args:
        keys: Hashes of the samples, uint64 [N].
        share: Share of all possible hashes whose samples are held out, below 1.
    """
    return keys < np.uint64(share * 2.0**64)


def keys_of_rows(x: npt.NDArray[np.generic]) -> Keys:
    """Returns a hash of the bytes of each row.

    Args:
        x: Samples as stored, [N, ...].
    """
    rows = np.ascontiguousarray(x).reshape(len(x), -1).view(np.uint8)
    digests = b"".join(hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)
