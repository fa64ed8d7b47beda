"""What becomes of each floating tensor of a model: is it trained, a running statistic, or a constant?

- A parameter that asks for a gradient is *trained*.
- A parameter that does not (``requires_grad = False``, a frozen backbone) is *constant*.
- The means and variances of batch and instance norms are *statistics*, but for a *frozen* norm, whose own weights are
  all frozen: it stays in evaluation while the rest trains, as it would in a frozen backbone, and is constant.
- Of any other buffer the name says nothing: a mask, a table of positions and somebody's own running average all look
  alike. So the model makes one step forward in training, on two random samples, and what changed is a statistic, what
  did not is constant. A model whose buffers are all those of norms makes no such step.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from fedlp_edge.core.blueprint import TensorKind, TensorSpec
from fedlp_edge.learning.rng import seeded

Kinds = Mapping[int, tuple[TensorKind, float | None]]
"""Kind and least value of tensors, by ``id``."""


def is_frozen(norm: nn.Module) -> bool:
    """Whether a module is a norm with running statistics whose own weights are all frozen."""
    weights = list(norm.parameters(recurse=False))
    return isinstance(norm, _NormBase) and bool(weights) and not any(weight.requires_grad for weight in weights)


def keep_frozen(model: nn.Module) -> None:
    """Puts the frozen norms of a model that was put into training mode back into evaluation."""
    for module in model.modules():
        if is_frozen(module):
            module.eval()


def kinds_of(layers: Collection[nn.Module], heads: Collection[nn.Module], sample: Tensor) -> Kinds:
    """The kinds of all floating tensors of a model.

    Args:
        layers: each takes what the one before gives.
        heads: of the layers, as many.
        sample: one input with a batch dimension; only its shape and type matter.
    """
    kinds: dict[int, tuple[TensorKind, float | None]] = {}
    for module in (*layers, *heads):
        for parameter in module.parameters():
            kinds[id(parameter)] = ("trained" if parameter.requires_grad else "constant"), None
        for norm in module.modules():
            if isinstance(norm, _NormBase) and norm.running_mean is not None and norm.running_var is not None:
                kind: TensorKind = "constant" if is_frozen(norm) else "statistic"
                kinds[id(norm.running_mean)] = kind, None
                kinds[id(norm.running_var)] = kind, 0.0
    unknown = [id(value) for _, value in _floating([*layers, *heads]) if id(value) not in kinds]
    if unknown:
        changed = _changed_by_a_step(layers, heads, sample)
        kinds.update({key: ("statistic" if key in changed else "constant", None) for key in unknown})
    return kinds


def specs_of(unit_id: str, module: nn.Module, kinds: Kinds) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The floating state of a unit, a tensor with two names (tied weights) under its first.

    Returns:
        What is exchanged, and what is constant.
    """
    specs: dict[int, TensorSpec] = {}
    for name, value in module.state_dict(keep_vars=True).items():
        if isinstance(value, Tensor) and value.is_floating_point() and id(value) not in specs:
            specs[id(value)] = TensorSpec(f"{unit_id}.{name}", tuple(value.shape), *kinds[id(value)])
    exchanged = tuple(spec for spec in specs.values() if spec.kind != "constant")
    return exchanged, tuple(spec for spec in specs.values() if spec.kind == "constant")


def _floating(modules: Collection[nn.Module]) -> Iterator[tuple[tuple[int, str], Tensor]]:
    for number, module in enumerate(modules):
        for name, value in module.state_dict(keep_vars=True).items():
            if isinstance(value, Tensor) and value.is_floating_point():
                yield (number, name), value


@torch.no_grad()
def _changed_by_a_step(layers: Collection[nn.Module], heads: Collection[nn.Module], sample: Tensor) -> frozenset[int]:
    """Which tensors a forward pass in training mode changes, by ``id``; all that are finite if none can be made."""
    originals = dict(_floating([*layers, *heads]))
    copies = copy.deepcopy([*layers, *heads])
    before = {key: value.clone() for key, value in _floating(copies)}
    with seeded(0):
        try:
            value: Any = _random_batch(sample)
            for layer, head in zip(copies[: len(layers)], copies[len(layers) :], strict=True):
                value = layer.train()(value)
                head.train()(value)
        except Exception:  # anything may go wrong in a user's code; training will tell of it
            return frozenset(id(value) for value in originals.values() if bool(value.isfinite().all()))
    after = dict(_floating(copies))
    changed = [key for key, value in before.items() if not torch.equal(_bits(value), _bits(after[key]))]
    return frozenset(id(originals[key]) for key in changed)


def _bits(value: Tensor) -> Tensor:
    """Values that can be compared, the one that is not a number included."""
    return value.nan_to_num(nan=12345.0)


def _random_batch(sample: Tensor) -> Tensor:
    """Two samples like this one, of small numbers."""
    shape = (2, *sample.shape[1:])
    if sample.is_floating_point():
        return torch.randn(shape, dtype=sample.dtype).to(sample.device)
    return torch.randint(0, 2, shape, dtype=sample.dtype).to(sample.device)
