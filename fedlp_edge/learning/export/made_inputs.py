"""This module makes random inputs for a model, on which a coordinator without data checks ONNX files.

Where devices have told mean and deviation of each channel, the inputs have these, so that activations are about as
large as on real samples. Models that take no such numbers, since they look some of them up in a table, get zeros and
ones. Whether a file computes the same on real samples is for the devices to find out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedlp_edge.core.device_data import InputFacts
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.partition.tracing import mode
from fedlp_edge.learning.sample_values import first_that_runs, zeros_and_ones

MADE = 64
"""Number of inputs."""

_SEED = 20231128


def made_inputs(facts: InputFacts, model: nn.Module, input_shape: tuple[int, ...], *, tokens: bool) -> Dataset:
    """Makes inputs that a model could get, without labels: every label is 0.

    Args:
        facts: What inputs look like.
        model: Model that gets them; its embeddings say which tokens there are.
        input_shape: Shape of one sample.
        tokens: Whether inputs are whole numbers.
    """
    facts = facts.of_channels(input_shape[0])
    generator = torch.Generator().manual_seed(_SEED)
    if tokens:
        x = torch.randint(0, _vocabulary(model), (MADE, *input_shape), generator=generator).float()
    else:
        x = torch.randn((MADE, *input_shape), generator=generator)
        if len(facts.channel_mean) == input_shape[0]:
            x = x * _by_channel(facts.channel_std, x) + _by_channel(facts.channel_mean, x)
        whole = zeros_and_ones(x.shape)
        if not _takes(model, x) and _takes(model, whole):
            x = whole
    stored = (x * _by_channel(facts.std, x) + _by_channel(facts.mean, x)) / (facts.scale or 1.0)
    return Dataset.of_tensor(
        x=stored,
        y=torch.zeros(MADE, dtype=torch.int64),
        classes=(),
        scale=facts.scale,
        mean=facts.mean,
        std=facts.std,
    )


def _by_channel(values: tuple[float, ...], x: Tensor) -> Tensor:
    """Returns values by channel in a shape that fits samples [N, C, ...]."""
    return torch.tensor(values).reshape((-1,) + (1,) * (x.ndim - 2))


def _vocabulary(model: nn.Module) -> int:
    """Returns the number of tokens that every embedding of a model knows."""
    sizes = [part.num_embeddings for part in model.modules() if isinstance(part, nn.Embedding | nn.EmbeddingBag)]
    return min(sizes, default=2)


def _takes(model: nn.Module, x: Tensor) -> bool:
    """Tells whether a model runs on inputs, as one that looks some of them up in a table may not."""
    device = next(model.parameters(), x).device
    with mode(model, training=False), torch.no_grad():
        return first_that_runs(lambda some: model(some) is not None, [x[:2].to(device)]) is not None
