"""ReeFL: exits share one module, which looks at the class tokens of all layers so far and writes the next one.

Lee et al., "Recurrent Early Exits for Federated Learning with Heterogeneous Clients", ICML 2024 (arXiv 2405.14791). A
device of depth d holds the first d layers of a transformer and the shared exit, a block of a transformer *Ree*:

    m_0, m_1, ..., m_l = Ree(meta, t_1, ..., t_{l-1}, z_l)  +  positions before,    logits_l = head(m_0 + z_l),

with z_l the class token behind layer l, ``meta`` a learned token, and ``head`` a norm and a linear layer. ``m_l`` takes
the place of the class token on its way to layer l + 1 (modulation) and is t_l from then on, as in the authors' code.
The device trains its exits 1 to d and distils the one with the least loss, a running mean over the steps of the round,
into the others:

    sum_l CE_l  +  sum_{l != best} KL(p_best || p_l).

Layers and the shared exit are averaged over those who hold them, by samples. The exit behind the last layer answers.

The authors let the distillation rise over 300 rounds of 1,000; here, where runs are short, it is there from the first
one on. Both sums are means here, as with all schemes. The network is trained from its first values, theirs is a
pretrained one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.comparison import transformer
from benchmarks.comparison.text_data import LENGTH
from fedlp_edge.core.blueprint import Blueprint, DepthCost, ExitMode, Unit
from fedlp_edge.learning.model.costs import measure_costs
from fedlp_edge.learning.model.layered import LayeredModel, Submodel
from fedlp_edge.learning.model.module_copies import copied

HEADS = 8
INNER = 16
RATIO = 1.35
"""Heads, numbers of a token within the attention, and width of the hidden layer of the authors' Ree."""

MEMORY = 0.8
"""Share of the old value in the running mean of a loss, as in the authors' code."""


class SharedExit(nn.Module):
    """The exit of all depths.

    Args:
        width: Numbers of a token.
        depths: Layers of the whole network.
        classes: Number of logits.
    """

    def __init__(self, width: int, depths: int, classes: int) -> None:
        super().__init__()
        self.meta = nn.Parameter(torch.empty(width))
        self.positions = nn.Parameter(torch.empty(depths + 1, width))
        for weights in (self.positions, self.meta):
            nn.init.trunc_normal_(weights, std=0.02)
        # Their scale is that of all heads together.
        self.block = transformer.Block(width, INNER, HEADS, int(RATIO * width), scale=INNER**-0.5)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, classes))

    def forward(self, seen: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Returns the logits [B, classes] behind a layer, and the class token [B, C] on its way to the next one.

        Args:
            seen: Class tokens [B, C] of the layers before, modulated, and that of the layer.
        """
        tokens = torch.stack((self.meta.expand_as(seen[0]), *seen), dim=1)
        mixed = self.block(tokens + self.positions[: tokens.shape[1]])
        return self.head(mixed[:, 0] + seen[-1]), mixed[:, -1]


def recurrent_exits(layers: Sequence[nn.Module], shared: SharedExit, x: Tensor) -> tuple[Tensor, ...]:
    """Returns the logits [B, classes] behind every layer, shallowest first.

    Args:
        layers: Layers from the input on, each with tokens [B, T, C] as output, the class token first.
        shared: Exit behind each of them.
        x: Batch of samples, [B, ...].
    """
    logits: list[Tensor] = []
    seen: list[Tensor] = []
    for layer in layers:
        if seen:
            x = torch.cat((seen[-1].unsqueeze(1), x[:, 1:]), dim=1)
        x = layer(x)
        answer, modulated = shared([*seen, x[:, 0]])
        logits.append(answer)
        seen.append(modulated)
    return tuple(logits)


class RecurrentExits(LayeredModel):
    """A model whose exits are one shared module, a unit that every depth holds.

    A blueprint has a unit for each head. Here it names the units of every depth instead, as those of models that are
    scaled by width do.

    Args:
        layers: Layers from the input on, with a class token.
        shared: Exit behind each of them.
        sample: One input, [1, ...].
        classes: Number of logits.
    """

    def __init__(self, layers: Sequence[nn.Module], shared: SharedExit, sample: Tensor, classes: int) -> None:
        named = [(f"block {number}", layer) for number, layer in enumerate(layers, start=1)]
        nothing = [("", nn.Identity())] * (len(layers) - 1)
        super().__init__(named, [*nothing, ("shared exit", shared)], sample, classes=classes)
        for unit in self.head_units[:-1]:
            delattr(self, unit.id)
        self.units = (*self.layer_units, self.head_units[-1])

    def forward(self, x: Tensor, depth: int | None = None) -> Tensor:
        """Returns the logits [B, classes] behind the layer of a depth, the last one for None.

        Raises:
            ValueError: The model has no such depth.
        """
        depth = self._full_depth if depth is None else depth
        self._check(depth)
        return recurrent_exits(list(self.layers)[:depth], self._shared, x)[-1]

    def exits(self, x: Tensor) -> tuple[Tensor, ...]:
        """Returns the logits [B, classes] behind all layers, shallowest first."""
        return recurrent_exits(list(self.layers), self._shared, x)

    def submodel(self, depth: int, exits: ExitMode | None = None) -> Submodel:  # noqa: ARG002 - all exits, always
        """Returns the model that a device of a depth trains, whatever ``exits`` says with all of its exits."""
        self._check(depth)
        held = {unit.id: self.get_submodule(unit.id) for unit in self._held_by(depth)}
        return RecurrentSubmodel(copied(held, held.values()), depth)

    def blueprint(self, model: str = "custom") -> Blueprint:
        """Returns the description as plain data; its ``widths`` has the units of every depth.

        Args:
            model: Specification that the model was built from.
        """
        return Blueprint(
            model=model,
            input_shape=self.input_shape,
            classes=self.classes,
            head_mode="shared",
            units=self.units,
            costs=self._costs(),
            widths=tuple(self._held_by(depth) for depth in self.depths),
        )

    @property
    def _shared(self) -> SharedExit:
        shared: SharedExit = self.get_submodule(self.units[-1].id)  # type: ignore[assignment]
        return shared

    def _held_by(self, depth: int) -> tuple[Unit, ...]:
        return tuple(unit for unit in self.units if unit.kind == "head" or unit.depth <= depth)

    def _costs(self) -> tuple[DepthCost, ...]:
        costs = []
        for depth in self.depths:
            held = self.submodel(depth)
            run = measure_costs([_AllExits(held)], [nn.Identity()], self._sample)[0]
            parameters = sum(parameter.numel() for parameter in held.parameters())
            costs.append(DepthCost(depth, parameters, run.forward_macs, run.activation_bytes))
        return tuple(costs)


class RecurrentSubmodel(Submodel):
    """A submodel whose exits have ReeFL's gradients where the mean of their cross entropies is minimised.

    Args:
        parts: Modules by unit id: layers 1 to ``depth`` and the shared exit.
        depth: Depth.
    """

    def __init__(self, parts: Mapping[str, nn.Module], depth: int) -> None:
        super().__init__(parts, depth)
        self._exit = next(unit_id for unit_id in parts if unit_id.startswith("H"))
        self._losses = torch.zeros(depth)

    @property
    def exit_depths(self) -> tuple[int, ...]:
        """Depths of its exits, shallowest first: all."""
        return tuple(range(1, self.depth + 1))

    def train(self, mode: bool = True) -> RecurrentSubmodel:
        """Forgets which exit was best; a device does so once, when its training begins."""
        self._losses.zero_()
        super().train(mode)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits [B, classes] behind its last layer."""
        return self._logits(x)[-1]

    def exits(self, x: Tensor) -> tuple[Tensor, ...]:
        """Returns the logits [B, classes] behind all of its layers, shallowest first."""
        logits = self._logits(x)
        if not torch.is_grad_enabled() or self.depth == 1:
            return logits
        distilled: tuple[Tensor, ...] = _DistilledFromBest.apply(self._losses, *logits)
        return distilled

    def _logits(self, x: Tensor) -> tuple[Tensor, ...]:
        layers = [self.get_submodule(f"L{number}") for number in range(1, self.depth + 1)]
        shared: SharedExit = self.get_submodule(self._exit)  # type: ignore[assignment]
        return recurrent_exits(layers, shared, x)


class _AllExits(nn.Module):
    """What a device computes of a sample, as one module.

    Args:
        submodel: Model of the device.
    """

    def __init__(self, submodel: Submodel) -> None:
        super().__init__()
        self._submodel = submodel

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits [exits, B, classes]."""
        return torch.stack(self._submodel.exits(x))


class _DistilledFromBest(torch.autograd.Function):
    """Adds the gradient of the divergence of each exit from the best one to that of its mean cross entropy.

    The objective sees the labels and an exit does not. But of n exits and B samples, the gradient of the cross entropy
    has (p - 1) / (n B) at the label, with p its probability, and is not negative elsewhere: it tells the loss, -log p.
    """

    @staticmethod
    def forward(ctx: Any, losses: Tensor, *logits: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(*logits)
        ctx.losses = losses
        return tuple(exit.view_as(exit) for exit in logits)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        exits, found = torch.stack(ctx.saved_tensors), torch.stack(gradients)
        share = exits.shape[0] * exits.shape[1]
        losses = -(1 + share * found.amin(dim=2)).clamp_min(torch.finfo(found.dtype).tiny).log().mean(dim=1)
        ctx.losses.mul_(MEMORY).add_(losses.to(ctx.losses), alpha=1 - MEMORY)
        answers = exits.softmax(dim=2)
        # Of KL(p_best || p_l) with respect to the logits of exit l, as a mean over samples and exits.
        found = found + (answers - answers[int(ctx.losses.argmin())]) / share
        return (None, *found.unbind())


def text(num_classes: int) -> LayeredModel:
    """The transformer that the comparison on text divides, with ReeFL's shared exit in place of its classifier."""
    # Whoever builds a model of this module has seeded the generator with the seed of the run.
    *layers, _ = transformer.build(num_classes)
    shared = SharedExit(transformer.WIDTH, len(layers), num_classes)
    return RecurrentExits(layers, shared, torch.zeros(1, LENGTH), num_classes)
