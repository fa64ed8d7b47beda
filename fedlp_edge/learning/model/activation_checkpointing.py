"""Activation checkpointing stores only the input of a layer and computes its activations again in the backward pass.

Memory then holds the activations of one layer and the features between layers, for about a third more computation
(Chen et al., arXiv 1604.06174). ``torch.utils.checkpoint`` does this for any function; this module loads no compiler
and guarantees two things that training here relies on: the second pass draws the same random numbers, and buffers,
such as the statistics of batch normalisation, change once per train step and not twice.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from fedlp_edge.learning.rng import preserved


def recomputed(layer: nn.Module, given: Tensor) -> Tensor:
    """Returns the output of a layer, and stores nothing but its input for the backward pass.

    Args:
        layer: Module that maps a tensor to a tensor; its parameters get gradients.
        given: Input of the layer, [B, ...].
    """
    # An input must need a gradient, or autograd skips the layer; the samples given to the first layer need none.
    handle = torch.zeros((), requires_grad=True)
    result: Tensor = _Recomputed.apply(handle, given, layer)
    return result


_changes_input: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
"""Whether each layer changes its input in place, found in its first pass; such a layer is given a copy."""


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
        # The next layer may change the result in place, which autograd forbids for a view made in a custom function.
        return result.clone() if result._is_view() else result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (given,) = ctx.saved_tensors
        layer: nn.Module = ctx.layer
        again = given.detach().requires_grad_(given.is_floating_point() and ctx.needs_input_grad[1])
        buffers_before = [(buffer, buffer.clone()) for buffer in layer.buffers()]
        with preserved(given.device), torch.enable_grad():
            _set_random_state(given, ctx.random)
            result = _run(layer, again)
            end = _GivenGradient.apply(result, gradients[0]) if result.requires_grad else None
        if end is not None:
            end.backward()
        with torch.no_grad():  # Not earlier: the backward pass uses the buffers as inputs.
            for buffer, value in buffers_before:
                buffer.copy_(value)
        return None, again.grad, None


class _GivenGradient(torch.autograd.Function):
    """Starts a backward pass with a gradient that is known already, and changes no bit of it.

    ``torch.autograd.backward`` takes a gradient too, but loads PyTorch's symbolic shapes and SymPy for it, which takes
    tens of megabytes on the very devices that checkpoint because they are short of memory.
    """

    @staticmethod
    def forward(ctx: Any, result: Tensor, gradient: Tensor) -> Tensor:
        ctx.gradient = gradient
        return torch.zeros((), device=result.device)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.gradient, None


def _random_state(given: Tensor) -> tuple[Tensor, Tensor | None]:
    on_cuda = torch.cuda.get_rng_state(given.device) if given.device.type == "cuda" else None
    return torch.get_rng_state(), on_cuda


def _set_random_state(given: Tensor, state: tuple[Tensor, Tensor | None]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], given.device)
