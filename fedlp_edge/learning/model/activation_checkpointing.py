"""Activation checkpointing by layer: keep a layer's input, and compute what is in it again for the backward pass.

Saves the memory of all activations but those of one layer and the features between layers, for about a third more
computation (Chen et al., arXiv 1604.06174). ``torch.utils.checkpoint`` does the same for any function; this one needs
none of the compiler that it may load, and keeps two promises that training here makes: random numbers are drawn the
same way again, and what a layer keeps for itself, such as the statistics of batch normalisation, moves once.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from fedlp_edge.learning.rng import preserved


def recomputed(layer: nn.Module, given: Tensor) -> Tensor:
    """What a layer makes of a feature, keeping nothing but the feature for the backward pass.

    Args:
        layer: maps a tensor to a tensor; its parameters get their gradients.
        given: [batch, ...].
    """
    # Something must need a gradient, or the backward pass ends above the layer; at the first one only this does.
    handle = torch.zeros((), requires_grad=True)
    result: Tensor = _Recomputed.apply(handle, given, layer)
    return result


_changes_input: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
"""Which layers work in place on what they are given; those are given a copy. Found out in their first pass."""


def _run(layer: nn.Module, given: Tensor) -> Tensor:
    copied = given.clone() if _changes_input.get(layer, True) else given
    before = copied._version
    result: Tensor = layer(copied)
    if layer not in _changes_input:
        _changes_input[layer] = copied._version != before
    return result


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, handle: Tensor, given: Tensor, layer: nn.Module) -> Tensor:
        del handle
        ctx.layer = layer
        ctx.random = _random_state(given)
        ctx.save_for_backward(given)
        result = _run(layer, given)  # autograd records nothing in here
        # The next layer may work in place on it, which a view of something else does not bear.
        return result.clone() if result._is_view() else result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (given,) = ctx.saved_tensors
        layer: nn.Module = ctx.layer
        again = given.detach().requires_grad_(given.is_floating_point() and ctx.needs_input_grad[1])
        kept = [(buffer, buffer.clone()) for buffer in layer.buffers()]
        with preserved(given.device), torch.enable_grad():
            _set_random_state(given, ctx.random)
            result = _run(layer, again)
        if result.requires_grad:
            torch.autograd.backward(result, gradients[0])
        with torch.no_grad():  # only now: the backward pass had them among its inputs
            for buffer, value in kept:
                buffer.copy_(value)
        return None, again.grad, None


def _random_state(given: Tensor) -> tuple[Tensor, Tensor | None]:
    on_cuda = torch.cuda.get_rng_state(given.device) if given.device.type == "cuda" else None
    return torch.get_rng_state(), on_cuda


def _set_random_state(given: Tensor, state: tuple[Tensor, Tensor | None]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], given.device)
