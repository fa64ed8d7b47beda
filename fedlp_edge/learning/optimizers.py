"""SGD and Adam on PyTorch's own fused update kernels, without its optimizer classes.

The first ``torch.optim`` object that a process makes imports ``torch._dynamo``: about a second and 76 MB
that a small device would pay for nothing. And the classes spend most of a small model's step on bookkeeping: one
call of a fused kernel updates all parameters.
"""

from __future__ import annotations

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
    """Stochastic gradient descent with momentum and L2 weight decay, as ``torch.optim.SGD``."""

    def __init__(self, parameters: Iterable[Tensor], settings: TrainingSettings) -> None:
        self._parameters = list(parameters)
        self._settings = settings
        # From zeros, the first step leaves the gradient itself in the buffer, as it should.
        self._momenta = [torch.zeros_like(p) for p in self._parameters] if settings.momentum else []

    @torch.no_grad()
    def step(self) -> None:
        """Makes one step and forgets the gradients."""
        used, gradients = _take_gradients(self._parameters)
        if not used:
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


class Adam:
    """Adam with the usual decay rates and L2 weight decay, as ``torch.optim.Adam``."""

    def __init__(self, parameters: Iterable[Tensor], settings: TrainingSettings) -> None:
        self._parameters = list(parameters)
        self._settings = settings
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


def make_optimizer(parameters: Iterable[Tensor], settings: TrainingSettings) -> Optimizer:
    """The optimizer that the settings name, with fresh state."""
    return (Sgd if settings.optimizer == "sgd" else Adam)(parameters, settings)


def _take_gradients(parameters: list[Tensor]) -> tuple[list[int], list[Tensor]]:
    """Numbers of the parameters that have a gradient, and the gradients, which the parameters let go."""
    used, gradients = [], []
    for number, parameter in enumerate(parameters):
        if parameter.grad is not None:
            used.append(number)
            gradients.append(parameter.grad)
            parameter.grad = None
    return used, gradients
