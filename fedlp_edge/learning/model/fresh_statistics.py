"""Batch norm statistics measured anew for the weights that a model has, before it is judged or handed out.

Training leaves running averages behind: of batches that passed while the weights moved, on each device by itself.
After few and short rounds, or with a small momentum, their mean says little about the averaged weights: a model with
a low loss answers at random. Statistics need no labels and one forward pass, so whoever judges or exports a model
measures them on samples at hand. docs/adr/0017-fresh-statistics.md compares this with other ways.

Samples that do not have the classes of the model evenly say less about what devices see: statistics of two classes of
ten answer even these two wrongly. So there the devices' own averages are kept if they are clearly better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.model.tensor_kinds import is_frozen

SAMPLES = 1024
"""About how many are looked at, from all over the data."""

LEAST_SAMPLES = 32
"""With fewer the averaged statistics of many devices are worth more."""

BATCH = 128

EVEN = 2.0
"""Times its even share that a class may have, or have too little, before samples count as one-sided."""

CLEARLY = 0.02
"""More right answers, as a share of all, that make the devices' averages clearly better."""

Forward = Callable[[Tensor], Tensor | Sequence[Tensor]]


@torch.no_grad()
def measure_statistics(model: nn.Module, data: Dataset, forward: Forward, lay_out: Callable[[Tensor], Tensor]) -> bool:
    """Puts fresh means and variances into the batch norms of a model, if it has any that are not frozen.

    Args:
        model: with the weights that are to be judged; in evaluation mode afterwards.
        data: whose inputs are like those that the model will see.
        forward: passes a batch through all of the model that matters; gives its logits, or those of several exits.
        lay_out: brings a batch to where the model is.

    Returns:
        Whether it did; not with too few samples, and not where one-sided ones show that the old are better.
    """
    model.eval()
    norms = [
        norm
        for norm in model.modules()
        if isinstance(norm, _BatchNorm) and norm.running_mean is not None and not is_frozen(norm)
    ]
    if not norms or len(data) < LEAST_SAMPLES:
        return False
    kept, before = _spread(data), 0.0
    one_sided = is_one_sided(data.y, forward(lay_out(data.batch(kept[:1])[0])))
    if one_sided:
        old = [{name: value.clone() for name, value in norm.named_buffers(recurse=False)} for norm in norms]
        before = _right(data, kept, forward, lay_out)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
        norm.train()
    try:
        for part in batches(kept):
            forward(lay_out(data.batch(part)[0]))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
    if one_sided and before > _right(data, kept, forward, lay_out) + CLEARLY:
        for norm, values in zip(norms, old, strict=True):
            for name, value in values.items():
                norm.get_buffer(name).copy_(value)
        return False
    return True


def is_one_sided(y: Tensor, outputs: Tensor | Sequence[Tensor]) -> bool:
    """Whether some class has more than ``EVEN`` times its even share of the labels, or less than one part of it.

    Args:
        y: labels.
        outputs: logits [B, classes] of the model, or of each exit.
    """
    classes = _exits(outputs)[0].shape[1]
    counts = y.bincount(minlength=classes)
    even = len(y) / classes
    return float(counts.max()) > EVEN * even or float(counts.min()) < even / EVEN


def _right(data: Dataset, kept: Tensor, forward: Forward, lay_out: Callable[[Tensor], Tensor]) -> float:
    """The share of right answers, over all exits."""
    right = asked = 0
    for part in batches(kept):
        x, y = data.batch(part)
        for logits in _exits(forward(lay_out(x))):
            right += int((logits.argmax(dim=1) == y.to(logits.device)).sum())
            asked += len(y)
    return right / asked


def _exits(outputs: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else outputs


def _spread(data: Dataset) -> Tensor:
    """Indices of samples from all over the data."""
    return torch.arange(0, len(data), max(1, len(data) // SAMPLES))


def batches(kept: Tensor) -> Iterator[Tensor]:
    """All of them, each batch from all over the data too: folders come one class after the other.

    A batch of one class would be normalised by that class, and what makes it differ from the others would be lost.
    The sizes differ by one at most, so that each counts the same.

    Args:
        kept: indices of samples.

    Yields:
        Indices of the samples of a batch.
    """
    number = -(-len(kept) // BATCH)
    for first in range(number):
        yield kept[first::number]
