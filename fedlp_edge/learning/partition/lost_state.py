"""This module finds what a model keeps from training where no device sends it and no file holds it.

A running mean in a buffer with ``persistent=False``, or in a plain attribute, is such, and so are whole numbers and
flags in buffers, which are not exchanged: a step counter that cools a temperature, or a note that the first batch has
been seen. The model behaves otherwise after training than its weights tell, so it is tried: does it answer otherwise
once it has trained, with what is exchanged as it was before?
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from fedlp_edge.core.device_data import listed
from fedlp_edge.learning.model.module_copies import copied, tensors_in
from fedlp_edge.learning.partition.kept_state import has_own_code
from fedlp_edge.learning.partition.tracing import mode
from fedlp_edge.learning.rng import preserved
from fedlp_edge.learning.sample_values import first_that_runs, zeros_and_ones

log = logging.getLogger("fedlp.learning")


def warn_of_lost_state(blocks: Sequence[tuple[str, nn.Module]], sample: Tensor) -> None:
    """Says what of a model nobody will get; arguments as for `lost_after_training`."""
    if lost := lost_after_training(blocks, sample):
        log.warning(
            "training changes %s, by which the model answers, though no device sends it (it is a buffer of whole "
            "numbers or flags or with persistent=False, or an attribute): it begins anew in every round and in "
            "exported files; register it as a buffer of floating-point numbers",
            listed(lost),
        )


def lost_after_training(blocks: Sequence[tuple[str, nn.Module]], sample: Tensor) -> tuple[str, ...]:
    """Returns the names of what training changes, and with it the model's answers, and what is not exchanged.

    Args:
        blocks: Names and modules of the blocks, each of which takes the output of the one before; not changed.
        sample: Two samples, [2, ...]; if they are floating-point numbers, only the shape matters.

    Returns:
        Dotted names; none if the model has no such tensors, or fails on made samples, which splitting names.
    """
    if not any(True for _ in _outside(blocks)):
        return ()
    batches: list[Tensor] = [sample]
    if sample.is_floating_point():
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(sample.shape, generator=generator).to(sample)
        batches = [noise, zeros_and_ones(sample.shape).to(sample)]
    with preserved(sample.device), torch.no_grad():
        return first_that_runs(lambda batch: _lost(blocks, batch), batches) or ()


def _lost(blocks: Sequence[tuple[str, nn.Module]], batch: Tensor) -> tuple[str, ...]:
    modules = [module for _, module in blocks]
    parts = [part for module in modules for part in module.modules() if not has_own_code(part)]
    weights = [weight for part in parts for weight in part.parameters(recurse=False)]
    shared = {id(weight): nn.Parameter(weight.detach(), requires_grad=weight.requires_grad) for weight in weights}
    twins = list(zip((name for name, _ in blocks), copied(modules, modules, shared), strict=True))
    values, kept = dict(_outside(twins)), list(_exchanged(twins))
    before = _answers(twins, batch, training=False)
    torch.manual_seed(0)
    _answers(twins, batch, training=True)
    for buffers, name, value in kept:
        buffers[name] = value
    if torch.allclose(_answers(twins, batch, training=False), before, rtol=1e-3, atol=1e-5, equal_nan=True):
        return ()
    return tuple(name for name, value in _outside(twins) if name in values and not _equal(value, values[name]))


def _answers(blocks: Sequence[tuple[str, nn.Module]], batch: Tensor, *, training: bool) -> Tensor:
    """Returns the first tensor that a model gives for a batch."""
    value: Any = batch.clone()
    for _, module in blocks:
        with mode(module, training=training):
            value = module(value)
    return next(tensors_in(value)).clone()


def _equal(one: Any, other: Any) -> bool:
    return one.equal(other) if isinstance(one, Tensor) and isinstance(other, Tensor) else bool(one == other)


def _exchanged(blocks: Sequence[tuple[str, nn.Module]]) -> Iterator[tuple[dict[str, Any], str, Tensor]]:
    """Yields what modules change by themselves and what is exchanged, as copies: where it is held, name and value."""
    for _, module in blocks:
        for part in module.modules():
            weights = part._parameters if has_own_code(part) else {}
            for held in (weights, part._buffers):
                for name, value in held.items():
                    lasts = held is weights or name not in part._non_persistent_buffers_set
                    if value is not None and lasts and value.is_floating_point():
                        copy = value.detach().clone()
                        yield held, name, nn.Parameter(copy, value.requires_grad) if held is weights else copy


def _outside(blocks: Sequence[tuple[str, nn.Module]]) -> Iterator[tuple[str, Tensor | float]]:
    """Yields copies of what modules hold and no device sends, by dotted names; counters of norms decide no answer."""
    for first, module in blocks:
        for path, part in module.named_modules(prefix=first):
            for name, held in {**part._buffers, **vars(part)}.items():
                if name.startswith("_") or name == "training":
                    continue
                if isinstance(held, Tensor) and (not _is_sent(part, name, held)):
                    yield f"{path}.{name}".removeprefix("."), held.detach().clone()
                elif isinstance(held, (int, float)) and has_own_code(part):
                    yield f"{path}.{name}".removeprefix("."), held


def _is_sent(part: nn.Module, name: str, held: Tensor) -> bool:
    """Returns whether a tensor of a module is exchanged, or no answer depends on it."""
    if name not in part._buffers or name in part._non_persistent_buffers_set:
        return not held.is_floating_point()  # whole numbers there are tables of indices, which are made anew
    return held.is_floating_point() or isinstance(part, _NormBase)
