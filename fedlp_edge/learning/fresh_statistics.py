"""Batch norm statistics measured anew for the weights that a model has, before it is judged or handed out.

Training leaves running averages behind: of batches that passed while the weights moved, on each device by itself.
After few and short rounds, or with a small momentum, their mean says little about the averaged weights: a model with
a low loss answers at random. Statistics need no labels and one forward pass, so whoever judges or exports a model
measures them on samples at hand. docs/adr/0017-fresh-statistics.md compares this with other ways.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedlp_edge.learning.data import Dataset
from fedlp_edge.learning.tensor_kinds import is_frozen

SAMPLES = 1024
"""About how many are looked at, from all over the data."""

LEAST_SAMPLES = 32
"""With fewer the averaged statistics of many devices are worth more."""

BATCH = 128


@torch.no_grad()
def measure_statistics(
    model: nn.Module, data: Dataset, forward: Callable[[Tensor], object], lay_out: Callable[[Tensor], Tensor]
) -> bool:
    """Puts fresh means and variances into the batch norms of a model, if it has any that are not frozen.

    Args:
        model: with the weights that are to be judged; in evaluation mode afterwards.
        data: whose inputs are like those that the model will see.
        forward: passes a batch through all of the model that matters.
        lay_out: brings a batch to where the model is.

    Returns:
        Whether it did; not with too few samples.
    """
    model.eval()
    norms = [
        norm
        for norm in model.modules()
        if isinstance(norm, _BatchNorm) and norm.running_mean is not None and not is_frozen(norm)
    ]
    if not norms or len(data) < LEAST_SAMPLES:
        return False
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
        norm.train()
    try:
        for x in _batches(data):
            forward(lay_out(x))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
    return True


def _batches(data: Dataset) -> Iterator[Tensor]:
    """Whole batches of samples from all over the data; each counts the same."""
    spread = torch.arange(0, len(data), max(1, len(data) // SAMPLES))
    size = min(BATCH, len(spread))
    for start in range(0, len(spread) - size + 1, size):
        yield data.batch(spread[start : start + size])[0]
