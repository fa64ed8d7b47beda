"""Finds the kind of each floating-point tensor of a model: trained, running statistic, or constant.

- A parameter that requires a gradient is *trained*.
- A parameter that does not (``requires_grad = False``, a frozen backbone) is *constant*.
- The means and variances of batch and instance norms are *statistics*. Those of a *frozen* norm, all of whose weights
  are frozen, are constant: it stays in evaluation mode while the rest trains, as in a frozen backbone.
- Any other buffer may be a mask, a table of positions or a running average of the user's; its name does not tell. So a
  copy of the model makes one forward pass in training mode on two random samples: what changed is a statistic, what did
  not is constant. A model whose only buffers are those of norms makes no such pass.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from fedlp_edge.core.blueprint import TensorKind, TensorSpec
from fedlp_edge.learning.model.module_copies import copied
from fedlp_edge.learning.rng import seeded
from fedlp_edge.learning.sample_values import first_that_runs, zeros_and_ones

Kinds = Mapping[int, tuple[TensorKind, float | None]]
"""Kind and lower bound (None for no bound) of each tensor, by its ``id()``."""


_FROZEN_MARK = "fedlp_frozen"
"""Attribute of modules that stay in evaluation mode, such as frozen norms without weights; copies have it, too."""


def is_frozen(norm: nn.Module) -> bool:
    """Returns whether a module is a batch or instance norm whose weights are all frozen, or that is marked."""
    if not isinstance(norm, _NormBase):
        return False
    weights = list(norm.parameters(recurse=False))
    return _FROZEN_MARK in vars(norm) or (bool(weights) and not any(weight.requires_grad for weight in weights))


def mark_frozen(module: nn.Module) -> None:
    """Keeps a module in evaluation mode in training, too: a norm that has no weights to tell by, or a dropout."""
    setattr(module, _FROZEN_MARK, True)


def keep_frozen(model: nn.Module) -> None:
    """Puts the frozen norms of a model in training mode, and what is marked, back into evaluation mode."""
    for module in model.modules():
        if is_frozen(module) or _FROZEN_MARK in vars(module):
            module.training = False


def kinds_of(layers: Collection[nn.Module], heads: Collection[nn.Module], sample: Tensor) -> Kinds:
    """Returns the kinds of all floating-point tensors of a model.

    Args:
        layers: Modules of the layers; each takes the output of the one before.
        heads: Exit heads, one per layer.
        sample: One input, [B, ...]; only its shape and type matter.
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
    """Describes the floating-point tensors of a unit; a tensor with two names (tied weights) has its first one.

    Args:
        unit_id: Id of the unit, such as ``"L3"``, which the names of its tensors begin with.
        module: Module of the unit.
        kinds: Kinds of all tensors, from `kinds_of`.

    Returns:
        The exchanged tensors and the constant ones, both in the order of ``state_dict()``.
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
    """Returns the ``id()`` of tensors that a forward pass in training mode changes; all finite ones if it fails."""
    originals = dict(_floating([*layers, *heads]))
    changed = first_that_runs(
        lambda batch: _changed_in_training(layers, heads, batch),
        (_random_batch(sample), zeros_and_ones((2, *sample.shape[1:])).to(sample)),
    )
    if changed is None:  # training will report it
        return frozenset(id(value) for value in originals.values() if bool(value.isfinite().all()))
    return frozenset(id(originals[key]) for key in changed)


def _changed_in_training(
    layers: Collection[nn.Module], heads: Collection[nn.Module], batch: Tensor
) -> list[tuple[int, str]]:
    """Returns the keys of tensors that a forward pass in training mode changes in a copy of the modules."""
    copies = copied([*layers, *heads], [*layers, *heads])
    before = {key: value.clone() for key, value in _floating(copies)}
    value: Any = batch
    with seeded(0):
        for layer, head in zip(copies[: len(layers)], copies[len(layers) :], strict=True):
            for module in (layer, head):
                keep_frozen(module.train())
            value = layer(value)
            head(value)
    after = dict(_floating(copies))
    return [key for key, value in before.items() if not torch.equal(_bits(value), _bits(after[key]))]


def _bits(value: Tensor) -> Tensor:
    """Replaces NaN by a number, so that ``torch.equal`` finds two NaN equal."""
    return value.nan_to_num(nan=12345.0)


def _random_batch(sample: Tensor) -> Tensor:
    """Returns two samples of the shape and type of ``sample``, of small random numbers."""
    shape = (2, *sample.shape[1:])
    if sample.is_floating_point():
        return torch.randn(shape, dtype=sample.dtype).to(sample.device)
    return torch.randint(0, 2, shape, dtype=sample.dtype).to(sample.device)
