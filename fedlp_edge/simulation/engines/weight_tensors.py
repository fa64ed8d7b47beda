"""Between the arrays that pass from process to process and the tensors of a model."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from fedlp_edge.core.algorithm.aggregation import Array
from fedlp_edge.simulation.shared_memory import AnyArray


@torch.no_grad()
def load(model: nn.Module, values: Mapping[str, Array], names: Collection[str]) -> None:
    """Copies the named values into a model, of a narrower one their leading blocks."""
    held = model.state_dict()
    for name in names:
        value = leading(values[name], tuple(held[name].shape))
        held[name].copy_(torch.from_numpy(np.require(value, requirements="W")))


def values_of(model: nn.Module, names: Collection[str]) -> dict[str, Array]:
    """The named values of a model, where possible in its own memory."""
    held = model.state_dict()
    return {name: held[name].detach().float().cpu().numpy() for name in names}


def leading(value: Array, shape: tuple[int, ...]) -> Array:
    """The leading block of a tensor that a device holds; mostly all of it."""
    return value if value.shape == shape else value[tuple(slice(side) for side in shape)]


def tensor(array: AnyArray) -> Tensor:
    """A tensor of the same memory; samples are only read, so they may lie where nobody may write."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(array)
