"""This module finds what a model keeps from training outside of its state, which no device sends and no file holds.

A running mean in a buffer with ``persistent=False``, or in a plain attribute, is such. The model behaves otherwise
after training than its weights tell, so it is tried: does it answer otherwise once it has trained, with its state as it
was before?
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fedlp_edge.core.device_data import listed
from fedlp_edge.learning.model.module_copies import copied, tensors_in
from fedlp_edge.learning.partition.tracing import mode
from fedlp_edge.learning.rng import preserved
from fedlp_edge.learning.sample_values import first_that_runs, zeros_and_ones

log = logging.getLogger("fedlp.learning")


def warn_of_lost_state(blocks: Sequence[tuple[str, nn.Module]], sample: Tensor) -> None:
    """Says what of a model nobody will get; arguments as for `lost_after_training`."""
    if lost := lost_after_training(blocks, sample):
        log.warning(
            "training changes %s, by which the model answers, though it is no part of its state (a buffer with "
            "persistent=False, or an attribute): it begins anew in every round and in exported files; register it as "
            "a buffer",
            listed(lost),
        )


def lost_after_training(blocks: Sequence[tuple[str, nn.Module]], sample: Tensor) -> tuple[str, ...]:
    """Returns the names of tensors outside of a model's state that training changes, and with them its answers.

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
    weights = [weight for module in modules for weight in module.parameters()]
    shared = {id(weight): nn.Parameter(weight.detach(), requires_grad=weight.requires_grad) for weight in weights}
    twins = list(zip((name for name, _ in blocks), copied(modules, modules, shared), strict=True))
    before, values = _answers(twins, batch, training=False), dict(_outside(twins))
    state = [(part, part._buffers, {**part._buffers}) for _, twin in twins for part in twin.modules()]
    kept = [
        (buffers, name, value.clone())
        for part, buffers, held in state
        for name, value in held.items()
        if value is not None and name not in part._non_persistent_buffers_set
    ]
    torch.manual_seed(0)
    _answers(twins, batch, training=True)
    for buffers, name, value in kept:
        buffers[name] = value
    if torch.allclose(_answers(twins, batch, training=False), before, rtol=1e-3, atol=1e-5, equal_nan=True):
        return ()
    return tuple(name for name, value in _outside(twins) if name in values and not value.equal(values[name]))


def _answers(blocks: Sequence[tuple[str, nn.Module]], batch: Tensor, *, training: bool) -> Tensor:
    """Returns the first tensor that a model gives for a batch."""
    value: Any = batch.clone()
    for _, module in blocks:
        with mode(module, training=training):
            value = module(value)
    return next(tensors_in(value)).clone()


def _outside(blocks: Sequence[tuple[str, nn.Module]]) -> Iterator[tuple[str, Tensor]]:
    """Returns copies of the floating-point tensors that modules hold outside of their state, by dotted names."""
    for first, module in blocks:
        for path, part in module.named_modules(prefix=first):
            buffers = {name: part._buffers[name] for name in part._non_persistent_buffers_set}
            attributes = {name: value for name, value in vars(part).items() if not name.startswith("_")}
            for name, held in {**buffers, **attributes}.items():
                if isinstance(held, Tensor) and held.is_floating_point():
                    yield f"{path}.{name}".removeprefix("."), held.detach().clone()
