"""Implements SGD, Adam and AdamW with PyTorch's fused update kernels, without its optimizer classes.

The first ``torch.optim`` object of a process imports ``torch._dynamo``, which takes about a second and 76 MB that a
small device can save. These classes also spend most of a small model's train step outside of kernels, whereas one call
of a fused kernel updates all parameters. Not every PyTorch has these kernels for every device and type of tensor, so
each optimizer can also update one parameter after the other with plain operations.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor

from fedlp_edge.core.settings import TrainingSettings

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


class Optimizer(Protocol):
    """An optimizer, which changes parameters in place by their gradients."""

    def step(self) -> None:
        """Updates the parameters once and deletes their gradients."""


class Sgd:
    """Stochastic gradient descent with momentum and L2 weight decay, like ``torch.optim.SGD``.

    Args:
        parameters: Parameters to update.
        settings: Training settings, of which ``lr``, ``momentum`` and ``weight_decay`` are used.
        fused: Whether one kernel updates all parameters, instead of plain operations on each of them.
    """

    def __init__(self, parameters: Iterable[Tensor], settings: TrainingSettings, *, fused: bool = True) -> None:
        self._parameters = list(parameters)
        self._settings = settings
        self._fused = fused
        # With zeros at the start, the momentum after the first update is the gradient, as in torch.optim.SGD.
        self._momenta = [torch.zeros_like(p) for p in self._parameters] if settings.momentum else []

    @torch.no_grad()
    def step(self) -> None:
        """Updates the parameters once and deletes their gradients."""
        used, gradients = _take_gradients(self._parameters)
        if not used:
            return
        if not self._fused:
            for i, gradient in zip(used, gradients, strict=True):
                self._change(i, gradient)
            return
        torch._fused_sgd_(
            [self._parameters[i] for i in used],
            gradients,
            [self._momenta[i] for i in used] if self._momenta else [],
            weight_decay=self._settings.weight_decay,
            momentum=self._settings.momentum,
            lr=self._settings.lr,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
        )

    def _change(self, number: int, gradient: Tensor) -> None:
        parameter, settings = self._parameters[number], self._settings
        change = _decayed(parameter, gradient, settings.weight_decay)
        if self._momenta:
            change = self._momenta[number].mul_(settings.momentum).add_(change)
        parameter.add_(change, alpha=-settings.lr)


class Adam:
    """Adam with the default decay rates, like ``torch.optim.Adam`` and ``torch.optim.AdamW``.

    Adam adds L2 weight decay to the gradient. AdamW takes ``lr * weight_decay`` of a weight away before every update
    (Loshchilov and Hutter, arXiv 1711.05101), so that it does not depend on how large the gradients are.

    Args:
        parameters: Parameters to update.
        settings: Training settings, of which ``optimizer``, ``lr`` and ``weight_decay`` are used.
        fused: Whether one kernel updates all parameters, instead of plain operations on each of them.
    """

    def __init__(self, parameters: Iterable[Tensor], settings: TrainingSettings, *, fused: bool = True) -> None:
        self._parameters = list(parameters)
        self._settings = settings
        self._fused = fused
        self._first = [torch.zeros_like(p) for p in self._parameters]
        self._second = [torch.zeros_like(p) for p in self._parameters]
        self._counts = [0] * len(self._parameters)
        self._decoupled = settings.optimizer == "adamw"

    @torch.no_grad()
    def step(self) -> None:
        """Updates the parameters once and deletes their gradients."""
        used, gradients = _take_gradients(self._parameters)
        if not used:
            return
        for i in used:
            self._counts[i] += 1
        if not self._fused:
            for i, gradient in zip(used, gradients, strict=True):
                self._change(i, gradient)
            return
        # The kernel needs a tensor with the number of updates for each parameter; mostly all share one tensor.
        steps = {n: torch.tensor(float(n), device=gradients[0].device) for n in {self._counts[i] for i in used}}
        update = torch._fused_adamw_ if self._decoupled else torch._fused_adam_
        update(
            [self._parameters[i] for i in used],
            gradients,
            [self._first[i] for i in used],
            [self._second[i] for i in used],
            [],
            [steps[self._counts[i]] for i in used],
            lr=self._settings.lr,
            beta1=_BETA1,
            beta2=_BETA2,
            weight_decay=self._settings.weight_decay,
            eps=_EPSILON,
            amsgrad=False,
            maximize=False,
        )

    def _change(self, number: int, gradient: Tensor) -> None:
        parameter, settings = self._parameters[number], self._settings
        if self._decoupled:
            parameter.mul_(1 - settings.lr * settings.weight_decay)
        change = _decayed(parameter, gradient, 0.0 if self._decoupled else settings.weight_decay)
        first = self._first[number].lerp_(change, 1 - _BETA1)
        second = self._second[number].mul_(_BETA2).addcmul_(change, change, value=1 - _BETA2)
        count = self._counts[number]
        scale = second.sqrt().div_(math.sqrt(1 - _BETA2**count)).add_(_EPSILON)
        parameter.addcdiv_(first, scale, value=-settings.lr / (1 - _BETA1**count))


def make_optimizer(parameters: Iterable[Tensor], settings: TrainingSettings, *, fused: bool = True) -> Optimizer:
    """Returns the optimizer that the settings name, with fresh state.

    Args:
        parameters: Parameters to update.
        settings: Optimizer and its constants.
        fused: Whether fused kernels may be used.
    """
    return (Sgd if settings.optimizer == "sgd" else Adam)(parameters, settings, fused=fused)


def _decayed(parameter: Tensor, gradient: Tensor, weight_decay: float) -> Tensor:
    """Returns a gradient with that of L2 weight decay added; dense, since momenta are dense."""
    dense = gradient.to_dense() if gradient.is_sparse else gradient
    return dense.add(parameter, alpha=weight_decay) if weight_decay else dense


def _take_gradients(parameters: list[Tensor]) -> tuple[list[int], list[Tensor]]:
    """Returns indices of the parameters that have a gradient, and the gradients, and deletes them there."""
    used, gradients = [], []
    for number, parameter in enumerate(parameters):
        if parameter.grad is not None:
            used.append(number)
            gradients.append(parameter.grad)
            parameter.grad = None
    return used, gradients


@torch.no_grad()
def clip_gradients(parameters: Iterable[Tensor], most: float) -> None:
    """Shortens the gradient of all parameters together to a Euclidean norm, if it is longer.

    Like ``torch.nn.utils.clip_grad_norm_``, and for sparse gradients as well. A gradient that is not finite stays so.

    Args:
        parameters: Parameters, of which some may have no gradient.
        most: Largest norm.
    """
    gradients = []
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            gradients.append(parameter.grad.values())
        elif parameter.grad is not None:
            gradients.append(parameter.grad)
    if not gradients:
        return
    norm = torch.stack(torch._foreach_norm(gradients)).norm()
    torch._foreach_mul_(gradients, (most / (norm + 1e-6)).clamp(max=1.0))
