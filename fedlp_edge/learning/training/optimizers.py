"""SGD and Adam on PyTorch's own fused update kernels, without its optimizer classes.

The first ``torch.optim`` object that a process makes imports ``torch._dynamo``: about a second and 76 MB
that a small device would pay for nothing. And the classes spend most of a small model's step on bookkeeping: one
call of a fused kernel updates all parameters. Not every PyTorch has these kernels for every device and kind of tensor,
so each optimizer can do the same in plain operations, parameter by parameter.
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
    """Changes parameters in place by their gradients."""

    def step(self) -> None:
        """Makes one step and forgets the gradients."""


class Sgd:
    """Stochastic gradient descent with momentum and L2 weight decay, as ``torch.optim.SGD``.

    Args:
        parameters: that are changed.
        settings: ``lr``, ``momentum`` and ``weight_decay`` count.
        fused: one kernel for all parameters, instead of plain operations on each.
    """

    def __init__(self, parameters: Iterable[Tensor], settings: TrainingSettings, *, fused: bool = True) -> None:
        self._parameters = list(parameters)
        self._settings = settings
        self._fused = fused
        # From zeros, the first step leaves the gradient itself in the buffer, as it should.
        self._momenta = [torch.zeros_like(p) for p in self._parameters] if settings.momentum else []

    @torch.no_grad()
    def step(self) -> None:
        """Makes one step and forgets the gradients."""
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
    """Adam with the usual decay rates and L2 weight decay, as ``torch.optim.Adam``.

    Args:
        parameters: that are changed.
        settings: ``lr`` and ``weight_decay`` count.
        fused: one kernel for all parameters, instead of plain operations on each.
    """

    def __init__(self, parameters: Iterable[Tensor], settings: TrainingSettings, *, fused: bool = True) -> None:
        self._parameters = list(parameters)
        self._settings = settings
        self._fused = fused
        self._first = [torch.zeros_like(p) for p in self._parameters]
        self._second = [torch.zeros_like(p) for p in self._parameters]
        self._counts = [0] * len(self._parameters)

    @torch.no_grad()
    def step(self) -> None:
        """Makes one step and forgets the gradients."""
        used, gradients = _take_gradients(self._parameters)
        if not used:
            return
        for i in used:
            self._counts[i] += 1
        if not self._fused:
            for i, gradient in zip(used, gradients, strict=True):
                self._change(i, gradient)
            return
        # The kernel wants a tensor for each parameter; as a rule all have made as many steps, and it is one.
        steps = {n: torch.tensor(float(n), device=gradients[0].device) for n in {self._counts[i] for i in used}}
        torch._fused_adam_(
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
        change = _decayed(parameter, gradient, settings.weight_decay)
        first = self._first[number].lerp_(change, 1 - _BETA1)
        second = self._second[number].mul_(_BETA2).addcmul_(change, change, value=1 - _BETA2)
        count = self._counts[number]
        scale = second.sqrt().div_(math.sqrt(1 - _BETA2**count)).add_(_EPSILON)
        parameter.addcdiv_(first, scale, value=-settings.lr / (1 - _BETA1**count))


def make_optimizer(parameters: Iterable[Tensor], settings: TrainingSettings, *, fused: bool = True) -> Optimizer:
    """The optimizer that the settings name, with fresh state."""
    return (Sgd if settings.optimizer == "sgd" else Adam)(parameters, settings, fused=fused)


def _decayed(parameter: Tensor, gradient: Tensor, weight_decay: float) -> Tensor:
    """A gradient of L2 weight decay as well; dense, since momenta are."""
    dense = gradient.to_dense() if gradient.is_sparse else gradient
    return dense.add(parameter, alpha=weight_decay) if weight_decay else dense


def _take_gradients(parameters: list[Tensor]) -> tuple[list[int], list[Tensor]]:
    """Numbers of the parameters that have a gradient, and the gradients, which the parameters let go."""
    used, gradients = [], []
    for number, parameter in enumerate(parameters):
        if parameter.grad is not None:
            used.append(number)
            gradients.append(parameter.grad)
            parameter.grad = None
    return used, gradients
