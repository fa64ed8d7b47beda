"""SGD and Adam on PyTorch's own update functions, without its optimizer classes.

The first ``torch.optim`` object that a process makes imports ``torch._dynamo``: about a second and 76 MB
that a small device would pay for nothing. The functions below the classes do the same arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from fedlp_edge.core.settings import TrainingSettings


class Optimizer(Protocol):
    """Changes parameters in place by their gradients."""

    def step(self) -> None:
        """Makes one step and forgets the gradients."""


class Sgd:
    """Stochastic gradient descent with momentum and L2 weight decay, as ``torch.optim.SGD``."""

    def __init__(self, parameters: Iterable[Tensor], settings: TrainingSettings) -> None:
        self._parameters = list(parameters)
        self._settings = settings
        self._momenta: list[Tensor | None] = [None] * len(self._parameters)

    @torch.no_grad()
    def step(self) -> None:
        """Makes one step and forgets the gradients."""
        used = [i for i, p in enumerate(self._parameters) if p.grad is not None]
        momenta = [self._momenta[i] for i in used]
        sgd(
            [self._parameters[i] for i in used],
            _gradients(self._parameters, used),
            momenta,
            has_sparse_grad=False,
            weight_decay=self._settings.weight_decay,
            momentum=self._settings.momentum,
            lr=self._settings.lr,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        for i, momentum in zip(used, momenta, strict=True):
            self._momenta[i] = momentum
        _forget(self._parameters)


class Adam:
    """Adam with the usual decay rates and L2 weight decay, as ``torch.optim.Adam``."""

    def __init__(self, parameters: Iterable[Tensor], settings: TrainingSettings) -> None:
        self._parameters = list(parameters)
        self._settings = settings
        self._first = [torch.zeros_like(p) for p in self._parameters]
        self._second = [torch.zeros_like(p) for p in self._parameters]
        # Step counts live on the CPU, as in torch.optim.Adam.
        self._steps = [torch.tensor(0.0) for _ in self._parameters]

    @torch.no_grad()
    def step(self) -> None:
        """Makes one step and forgets the gradients."""
        used = [i for i, p in enumerate(self._parameters) if p.grad is not None]
        adam(
            [self._parameters[i] for i in used],
            _gradients(self._parameters, used),
            [self._first[i] for i in used],
            [self._second[i] for i in used],
            [],
            [self._steps[i] for i in used],
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self._settings.lr,
            weight_decay=self._settings.weight_decay,
            eps=1e-8,
            maximize=False,
        )
        _forget(self._parameters)


def make_optimizer(parameters: Iterable[Tensor], settings: TrainingSettings) -> Optimizer:
    """The optimizer that the settings name, with fresh state."""
    return (Sgd if settings.optimizer == "sgd" else Adam)(parameters, settings)


def _gradients(parameters: list[Tensor], used: list[int]) -> list[Tensor]:
    return [grad for i in used if (grad := parameters[i].grad) is not None]


def _forget(parameters: list[Tensor]) -> None:
    for parameter in parameters:
        parameter.grad = None
