"""Implements the proximal term of FedProx, which keeps the weights of a device near those at the start of the round.

Li et al., "Federated Optimization in Heterogeneous Networks", arXiv 1812.06127, equation 2: the local objective has the
additional term ``mu / 2 ||w - w_0||^2``, with w_0 the weights at the start of the round. FedDyn (Acar et al., arXiv
2111.04263, equation 1) pulls towards other weights: its ``-<h, w> + alpha / 2 ||w - w_0||^2`` is, but for a constant,
``alpha / 2 ||w - (w_0 + h / alpha)||^2``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Proximal:
    """The proximal term of the parameters that a device trains.

    Args:
        mu: Factor.
        parameters: Parameters with their values w_0, which are copied.
        anchor: Values in the place of w_0, one for each parameter, in its shape; None for w_0.
    """

    def __init__(self, mu: float, parameters: Sequence[nn.Parameter], anchor: Sequence[Tensor] | None = None) -> None:
        self._mu = mu
        self._parameters = list(parameters)
        self._start = [
            # As the parameter lies in memory, which for channels-last is not how it arrives.
            torch.empty_like(parameter, requires_grad=False).copy_(value.detach())
            for parameter, value in zip(parameters, parameters if anchor is None else anchor, strict=True)
        ]

    def __call__(self) -> Tensor:
        """Returns ``mu / 2 ||w - w_0||^2`` for the present weights w, a scalar with the gradient ``mu (w - w_0)``."""
        distance: Tensor = _HalfSquaredDistance.apply(self._start, *self._parameters)
        return self._mu * distance


class _HalfSquaredDistance(torch.autograd.Function):
    """One autograd node for all parameters; plain operations would add five per parameter to every train step."""

    @staticmethod
    def forward(ctx: Any, start: list[Tensor], *parameters: Tensor) -> Tensor:
        ctx.difference = torch._foreach_sub(parameters, start)
        norms = torch._foreach_norm(ctx.difference)
        return torch.stack(norms).square().sum() / 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return (None, *torch._foreach_mul(ctx.difference, gradient))
