"""Measures the statistics of batch norms anew for averaged weights, before a model is evaluated or exported.

Running statistics come from batches that each device saw while its weights changed. After few or short rounds, or with
a small momentum, their mean does not fit the averaged weights: a model with a low loss then answers at random.
Measuring statistics needs no labels and one forward pass, so every evaluation and export measures them on the samples
that it has. docs/adr/0017-fresh-statistics.md compares this with other methods.

Samples whose classes are unbalanced represent the fleet's data badly: with the statistics of two classes out of ten,
a model answers even these two wrongly. With such samples the averaged statistics stay if they are clearly better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.model.tensor_kinds import is_frozen
from fedlp_edge.learning.tasks.classification import class_logits

SAMPLES = 1024
"""Approximate number of samples that statistics are measured on, spread evenly over the data."""

MIN_SAMPLES_FOR_STATISTICS = 32
"""Least number of samples: the averaged statistics of many devices are better than those of fewer samples."""

BATCH = 128
"""Samples of a batch."""

EVEN = 2.0
"""Largest ratio of a class's share of the labels to an even share, and its inverse, in balanced samples."""

CLEARLY = 0.02
"""Gain in accuracy, as a share of all answers, from which on the averaged statistics are clearly better."""

Forward = Callable[[Tensor], Tensor | Sequence[Tensor]]
"""Maps a batch [B, ...] to the logits [B, classes] of a model, or of each of its exits."""


@torch.no_grad()
def measure_statistics(model: nn.Module, data: Dataset, forward: Forward, lay_out: Callable[[Tensor], Tensor]) -> bool:
    """Measures new means and variances for all batch norms of a model that are not frozen.

    Args:
        model: Model with the weights to be evaluated; in evaluation mode afterwards.
        data: Samples like those that the model will see.
        forward: Function from a batch to the logits [B, classes] of the model, or of each of its exits.
        lay_out: Function that moves a batch to the model's device, in its memory layout.

    Returns:
        Whether the statistics were replaced. They stay if there are too few samples, or if the samples are
        unbalanced and the old statistics give clearly better answers.
    """
    model.eval()
    norms = [
        norm
        for norm in model.modules()
        if isinstance(norm, _BatchNorm) and norm.running_mean is not None and not is_frozen(norm)
    ]
    if not norms or len(data) < MIN_SAMPLES_FOR_STATISTICS:
        return False
    indices, before = _spread(data), 0.0
    one_sided = data.targets == "class" and is_one_sided(data.y, forward(lay_out(data.batch(indices[:1])[0])))
    if one_sided:
        old = [{name: value.clone() for name, value in norm.named_buffers(recurse=False)} for norm in norms]
        before = _accuracy(data, indices, forward, lay_out)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # PyTorch then takes the plain mean over all batches.
        norm.train()
    try:
        for batch in batches(indices):
            forward(lay_out(data.batch(batch)[0]))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
    if one_sided and before > _accuracy(data, indices, forward, lay_out) + CLEARLY:
        for norm, values in zip(norms, old, strict=True):
            for name, value in values.items():
                norm.get_buffer(name).copy_(value)
        return False
    return True


def is_one_sided(y: Tensor, outputs: Tensor | Sequence[Tensor]) -> bool:
    """Returns whether the labels are unbalanced: a class has over ``EVEN`` times, or under 1 / ``EVEN`` of, its share.

    Args:
        y: Class numbers of all samples, int64 [N]; targets that are no classes are never unbalanced.
        outputs: Logits [B, classes] of the model, or of each exit; they tell the number of classes.
    """
    if y.is_floating_point():
        return False
    classes = max(2, _exits(outputs)[0].shape[1])
    counts = y.bincount(minlength=classes)
    even = len(y) / classes
    return float(counts.max()) > EVEN * even or float(counts.min()) < even / EVEN


def _accuracy(data: Dataset, indices: Tensor, forward: Forward, lay_out: Callable[[Tensor], Tensor]) -> float:
    """Returns the share of right answers over all exits."""
    right = asked = 0
    for batch in batches(indices):
        x, y = data.batch(batch)
        for logits in map(class_logits, _exits(forward(lay_out(x)))):
            right += int((logits.argmax(dim=1) == y.to(logits.device)).sum())
            asked += len(y)
    return right / asked


def _exits(outputs: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else outputs


def _spread(data: Dataset) -> Tensor:
    """Returns indices of samples at equal distances in the data."""
    return torch.arange(0, len(data), max(1, len(data) // SAMPLES))


def batches(indices: Tensor) -> Iterator[Tensor]:
    """Splits indices into batches that are each spread over the data, since folders list one class after another.

    A batch of one class would be normalised by the statistics of that class, which removes what distinguishes it from
    the others. The batch sizes differ by one at most, so that all batches count alike.

    Args:
        indices: Indices of samples, int64 [N].

    Yields:
        Indices of the samples of a batch, int64 [at most ``BATCH``].
    """
    number = -(-len(indices) // BATCH)
    for first in range(number):
        yield indices[first::number]
