"""Which samples of a data set a specification means: indices, from labels alone and without torch.

A device asks for its own share; a simulation asks for everybody's at once and deals only once.
"""

from __future__ import annotations

import numpy as np

from fedlp_edge.learning.data.partitioners import Indices, deal
from fedlp_edge.learning.data.public_datasets import Split
from fedlp_edge.learning.data.spec import DataSpec


def select_indices(labels: Indices, spec: DataSpec, split: Split) -> Indices | None:
    """Indices of the samples to keep; None keeps all.

    Args:
        labels: of the whole split, [N].
        spec: its share applies to the training split only, its limit to either.
        split: that ``labels`` are of.

    Raises:
        DataError: the samples cannot be dealt.
    """
    if spec.share is not None and split == "train":
        dealt = deal(labels, spec.share.devices, spec.share.partition, spec.seed)
        return _limited(dealt[spec.share.device], spec, spec.share.device)
    if spec.limit is None or spec.limit >= len(labels):
        return None
    return _limited(np.arange(len(labels)), spec, 0 if spec.share is None else spec.share.device)


def everybody(labels: Indices, spec: DataSpec) -> list[Indices]:
    """What ``select_indices`` gives each device of a share's fleet, from one deal of the training split.

    Args:
        labels: of the training split, [N].
        spec: with a share; whose share it is does not matter.

    Raises:
        ValueError: it has no share.
        DataError: the samples cannot be dealt.
    """
    if spec.share is None:
        raise ValueError("a specification without a share deals nothing")
    dealt = deal(labels, spec.share.devices, spec.share.partition, spec.seed)
    return [_limited(kept, spec, device) for device, kept in enumerate(dealt)]


def _limited(kept: Indices, spec: DataSpec, device: int) -> Indices:
    available = len(kept)
    if spec.limit is None or spec.limit >= available:
        return kept
    rng = np.random.default_rng([spec.seed, device, available])
    return kept[np.sort(rng.choice(available, size=spec.limit, replace=False))]
