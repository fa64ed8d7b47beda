"""ScaleFL: a device trains fewer layers and fewer channels, with an exit at every depth that learns from its last one.

Ilhan et al., "ScaleFL: Resource-Adaptive Federated Learning with Heterogeneous Clients", CVPR 2023. A device of level l
holds the first l layers, with the leading share of their channels that its level has, and the exits 1 to l. With n
exits it minimises

    sum_j j (CE_j + gamma T^2 KL(p_n || p_j)) / (1 + ... + n),    no KL for j = n,

with p the softmax of logits / T, and p_n as a constant. As in HeteroFL, whose extraction it shares, tensors are
averaged by leading blocks, narrowed layers are scaled, and batch norms use the statistics of the batch.

The authors let the distillation begin after a quarter of the rounds; here, where runs are short, it is there from the
first one on. Their code divides the divergence by the number of classes too, by PyTorch's ``reduction="mean"``; here it
is the divergence itself, as in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fedlp_edge.core.blueprint import DepthCost, ExitMode, Unit
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.learning.model.costs import measure_costs
from fedlp_edge.learning.model.layered import LayeredModel, Submodel
from fedlp_edge.learning.model.width import WidthModel, narrow_chain
from fedlp_edge.learning.zoo.build import build_untrained

RATIOS = (0.65, 0.7, 0.75, 0.85, 1.0)
"""Share of the channels of each level: between the four of the authors' networks for images, 0.65 to 1."""

GAMMA = 0.05
"""Factor of the distillation, as the authors' code has it where it names one."""

TEMPERATURE = 3.0


class ScaledExits(WidthModel):
    """A model with levels: level l has the first l layers and exits, with the leading share of their channels.

    What is evaluated are the exits of the whole width.

    Args:
        whole: Chain of convolutions, linear layers and batch norms, with an exit at every depth; not changed.
        ratios: Share of the channels of each level, one a depth; the last one is 1.
    """

    def __init__(self, whole: LayeredModel, ratios: tuple[float, ...] = RATIOS) -> None:
        layers = [whole.get_submodule(unit.id) for unit in whole.layer_units]
        heads = [whole.get_submodule(unit.id) for unit in whole.head_units]
        body, exits = _narrowed(layers, heads, whole.sample, 1.0, tracking=False)
        LayeredModel.__init__(
            self,
            [(unit.name, module) for unit, module in zip(whole.layer_units, body, strict=True)],
            [(unit.name, module) for unit, module in zip(whole.head_units, exits, strict=True)],
            whole.sample,
            classes=whole.classes,
        )
        self._ratios = ratios
        self._measured_levels = ()

    def exits(self, x: Tensor) -> tuple[Tensor, ...]:
        """Returns the logits [B, classes] of all exits of the whole width in evaluation, shallowest first.

        Raises:
            RuntimeError: `measure` was not called before.
        """
        return self._measured_level(self._full_depth).exits(x)

    def submodel(self, depth: int, exits: ExitMode | None = None) -> Submodel:  # noqa: ARG002 - all exits, always
        """Returns the model that a device of a level trains, whatever ``exits`` says with all of its exits."""
        return self._narrow_model(depth, tracking=False)

    def _narrow_model(self, level: int, *, tracking: bool) -> Submodel:
        self._check_level(level)
        layers = [self.get_submodule(f"L{number}") for number in range(1, level + 1)]
        heads = [self.get_submodule(f"H{number}") for number in range(1, level + 1)]
        body, exits = _narrowed(layers, heads, self._sample, self._ratios[level - 1], tracking=tracking)
        parts = {f"L{number}": module for number, module in enumerate(body, start=1)}
        return SelfDistilled(parts | {f"H{number}": module for number, module in enumerate(exits, start=1)}, level)

    def _held_by(self, level: int) -> tuple[Unit, ...]:
        return tuple(unit for unit in self.units if unit.depth <= level)

    def _cost(self, level: int) -> DepthCost:
        narrow = self.submodel(level)
        layers = [narrow.get_submodule(f"L{number}") for number in range(1, level + 1)]
        heads = [narrow.get_submodule(f"H{number}") for number in range(1, level + 1)]
        run = measure_costs(layers, heads, self._sample, all_exits=True)[-1]
        return DepthCost(level, sum(p.numel() for p in narrow.parameters()), run.forward_macs, run.activation_bytes)


class SelfDistilled(Submodel):
    """A submodel whose exits have ScaleFL's gradients where the mean of their cross entropies is minimised.

    Args:
        parts: Modules by unit id: layers 1 to ``depth`` and all of their heads.
        depth: Depth.
    """

    def __init__(self, parts: Mapping[str, nn.Module], depth: int) -> None:
        super().__init__(parts, depth)
        self._gamma = GAMMA
        self._temperature = TEMPERATURE

    def exits(self, x: Tensor) -> tuple[Tensor, ...]:
        """Returns the logits [B, classes] of all exits, shallowest first."""
        logits = super().exits(x)
        if not torch.is_grad_enabled():
            return logits
        return tuple(
            _ExitGradient.apply(
                exit,
                logits[-1].detach(),
                2 * number / (len(logits) + 1),
                self._gamma if number < len(logits) else 0.0,
                self._temperature,
                len(logits),
            )
            for number, exit in enumerate(logits, start=1)
        )


class _ExitGradient(torch.autograd.Function):
    """Weighs the gradient of an exit's mean cross entropy, and adds that of its divergence from the last exit."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, teacher: Tensor, weight: float, gamma: float, temperature: float, exits: int
    ) -> Tensor:
        ctx.save_for_backward(logits, teacher)
        ctx.constants = weight, gamma, temperature, exits
        return logits.view_as(logits)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        logits, teacher = ctx.saved_tensors
        weight, gamma, temperature, exits = ctx.constants
        if gamma:
            # Of T^2 KL(p_n || p_j) with respect to the logits of exit j, as a mean over samples and exits.
            apart = (logits / temperature).softmax(-1) - (teacher / temperature).softmax(-1)
            gradient = gradient + gamma * temperature * apart / (len(logits) * exits)
        return (weight * gradient, *[None] * 5)


def fashion_mnist(num_classes: int) -> LayeredModel:
    """``fedlp-cnn-narrow`` with pooled heads and ScaleFL's levels, for Fashion-MNIST."""
    return _scaled((1, 28, 28), num_classes)


def digits(num_classes: int) -> LayeredModel:
    """The same for the digits of scikit-learn."""
    return _scaled((1, 8, 8), num_classes)


def _scaled(shape: tuple[int, ...], classes: int) -> LayeredModel:
    settings = ModelSettings(
        name="fedlp-cnn-narrow", input=shape, classes=classes, exit_heads="pooled", head_mode="shared"
    )
    # Whoever builds a model of this module has seeded the generator with the seed of the run.
    return ScaledExits(build_untrained(settings, torch.initial_seed()))


def _narrowed(
    layers: list[nn.Module], heads: list[nn.Module], sample: Tensor, ratio: float, *, tracking: bool
) -> tuple[list[nn.Module], list[nn.Module]]:
    """Narrow copies of layers, and of a head behind each of them."""
    chains = [
        narrow_chain([*layers[:number], head], sample, ratio, tracking=tracking)
        for number, head in enumerate(heads, start=1)
    ]
    return chains[-1][:-1], [chain[-1] for chain in chains]
