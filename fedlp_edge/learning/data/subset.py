"""This module computes the indices of the samples that a specification selects, from labels alone and without PyTorch.

A device asks for its own share. A simulation asks for the shares of all devices at once, so that it partitions the data
set only once.
"""

from __future__ import annotations

import numpy as np

from fedlp_edge.learning.data.partitioners import Indices, assign_samples
from fedlp_edge.learning.data.public_datasets import Split
from fedlp_edge.learning.data.spec.data_spec import DataSpec


def select_indices(labels: Indices, spec: DataSpec, split: Split, groups: Indices | None = None) -> Indices | None:
    """Returns the indices of the samples that a specification selects.

    Args:
        labels: Class numbers of the whole split, int64 [N].
        spec: Data specification; its share applies to the training split only, its limit to either split.
        split: Split to which ``labels`` belong.
        groups: Number of the group of each sample, int64 [N]; None if the source has no groups.

    Returns:
        Ascending indices, int64; None for all samples.

    Raises:
        DataError: The samples cannot be partitioned.
    """
    if spec.share is not None and split == "train":
        parts = assign_samples(labels, spec.share.devices, spec.share.partition, spec.seed, groups)
        return _limited(parts[spec.share.device], spec, spec.share.device)
    if spec.limit is None or spec.limit >= len(labels):
        return None
    return _limited(np.arange(len(labels)), spec, 0 if spec.share is None else spec.share.device)


def indices_of_all_devices(labels: Indices, spec: DataSpec, groups: Indices | None = None) -> list[Indices]:
    """Returns the result of ``select_indices`` for every device of a fleet, from one partition of the training split.

    Args:
        labels: Class numbers of the training split, int64 [N].
        spec: Data specification with the share of any device of the fleet.
        groups: Number of the group of each sample, int64 [N]; None if the source has no groups.

    Returns:
        Ascending indices (int64) of the samples of each device.

    Raises:
        ValueError: The specification has no share.
        DataError: The samples cannot be partitioned.
    """
    if spec.share is None:
        raise ValueError("a specification without a share has no fleet to partition samples for")
    parts = assign_samples(labels, spec.share.devices, spec.share.partition, spec.seed, groups)
    return [_limited(indices, spec, device) for device, indices in enumerate(parts)]


def _limited(indices: Indices, spec: DataSpec, device: int) -> Indices:
    available = len(indices)
    if spec.limit is None or spec.limit >= available:
        return indices
    rng = np.random.default_rng([spec.seed, device, available])
    return indices[np.sort(rng.choice(available, size=spec.limit, replace=False))]
