"""A model as an ordered list of layers with an exit head per depth.

Everything that the fleet exchanges is named here: the modules of layer 3 live under ``L3.`` and those of its
exit head under ``H3.``, followed by the names that the user's own model gives them, so the unit of a tensor
is the part of its name before the first dot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Literal, cast

import torch
import torch.fx
from torch import nn

from fedlp_edge.core.blueprint import Blueprint, DepthCost, ExitMode, HeadMode, Unit
from fedlp_edge.errors import PartitionError
from fedlp_edge.learning.model.activation_checkpointing import recomputed
from fedlp_edge.learning.model.costs import measure_costs
from fedlp_edge.learning.model.heads import feature_of
from fedlp_edge.learning.model.module_copies import copied, without_sparse_gradients
from fedlp_edge.learning.model.tensor_kinds import kinds_of, specs_of

Named = tuple[str, nn.Module]


class LayeredModel(nn.Module):
    """Layers ``L1`` .. ``LD`` and exit heads ``H1`` .. ``HD``; built by `fedlp_edge.partition`.

    ``model(x)`` gives the deepest logits [batch, classes], ``model(x, depth=d)`` those of exit d. At full depth
    it is the user's model: the same modules and the same outputs.

    Args:
        layers: name for people and code of each layer, in order.
        heads: likewise of each exit head, shallowest first; as many as layers.
        sample: one input with a batch dimension of 1; its shape and type are what costs are measured on.
        classes: number of logits.
        head_mode: whether shallow heads are averaged (``"shared"``) or stay on their device (``"personal"``).
        exit_mode: whether a submodel holds its ``"own"`` head or ``"all"`` heads up to its depth.

    Attributes:
        classes: number of logits.
        head_mode: as above.
        exit_mode: as above.
        units: all layers, then all heads, as plain data.
    """

    def __init__(
        self,
        layers: Sequence[Named],
        heads: Sequence[Named],
        sample: torch.Tensor,
        *,
        classes: int,
        head_mode: HeadMode = "shared",
        exit_mode: ExitMode = "own",
    ) -> None:
        super().__init__()
        if not layers or len(layers) != len(heads):
            raise ValueError(f"{len(layers)} layers need as many exit heads, not {len(heads)}")
        self.classes = classes
        self.head_mode: HeadMode = head_mode
        self.exit_mode: ExitMode = exit_mode
        self._full_depth = len(layers)
        self._sample = sample
        self._measured: dict[ExitMode, tuple[DepthCost, ...]] = {}
        units = []
        of_tensors = kinds_of([module for _, module in layers], [module for _, module in heads], sample)
        parts_of: tuple[tuple[Literal["layer", "head"], Sequence[Named]], ...] = (("layer", layers), ("head", heads))
        for kind, parts in parts_of:
            for depth, (name, module) in enumerate(parts, start=1):
                unit_id = f"{'L' if kind == 'layer' else 'H'}{depth}"
                self.add_module(unit_id, module)
                units.append(Unit(unit_id, name, kind, depth, *specs_of(unit_id, module, of_tensors)))
        self.units = tuple(units)
        self.training = layers[-1][1].training  # the modules keep the mode that they came in

    @property
    def depths(self) -> range:
        """All depths, 1 to D."""
        return range(1, self._full_depth + 1)

    @property
    def layers(self) -> nn.ModuleList:
        """The modules of layers 1 to D, in order; each takes what the one before gives. They share its parameters."""
        return nn.ModuleList(self.get_submodule(unit.id) for unit in self.layer_units)

    @property
    def layer_units(self) -> tuple[Unit, ...]:
        """The layers as data, without the heads: name, parameter count, names of their tensors."""
        return self.units[: self._full_depth]

    @property
    def head_units(self) -> tuple[Unit, ...]:
        """The exit heads; the last one is the user's own classifier."""
        return self.units[self._full_depth :]

    def forward(self, x: torch.Tensor, depth: int | None = None) -> torch.Tensor:
        """The logits [batch, classes] of one exit, of the deepest if ``depth`` is left out."""
        depth = self._full_depth if depth is None else depth
        passed = self._passed_on(x, depth)
        logits: torch.Tensor = self.get_submodule(f"H{depth}")(passed)
        return logits

    def activations(self, x: torch.Tensor, depth: int) -> torch.Tensor:
        """The feature that layer ``depth`` gives, before its exit head."""
        return feature_of(self._passed_on(x, depth))

    def _passed_on(self, x: torch.Tensor, depth: int) -> Any:
        """The feature, and with it what later layers need beside it, such as a padding mask."""
        self._check(depth)
        passed: Any = x
        for number in range(1, depth + 1):
            passed = self.get_submodule(f"L{number}")(passed)
        return passed

    def exits(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The logits of all exits, shallowest first, in one pass through the layers."""
        logits = []
        for depth in self.depths:
            x = self.get_submodule(f"L{depth}")(x)
            logits.append(self.get_submodule(f"H{depth}")(x))
        return tuple(logits)

    def submodel(self, depth: int, exits: ExitMode | None = None) -> Submodel:
        """A copy of what a device of this depth holds; it shares no parameter with this model.

        Its state names are among this model's, and it computes what ``self(x, depth=depth)`` computes.

        Args:
            depth: from 1.
            exits: with its ``"own"`` head or ``"all"`` heads up to its depth; None for this model's ``exit_mode``.

        Raises:
            ValueError: there is no such depth.
        """
        self._check(depth)
        numbers = range(1, depth + 1)
        heads = numbers if (exits or self.exit_mode) == "all" else (depth,)
        ids = [f"L{number}" for number in numbers] + [f"H{number}" for number in heads]
        held = {unit_id: self.get_submodule(unit_id) for unit_id in ids}
        parts = copied(held, held.values())
        without_sparse_gradients(parts.values())
        return Submodel(parts, depth)

    def blueprint(self, model: str = "custom") -> Blueprint:
        """The description of this model as plain data, costs included.

        Args:
            model: the specification that it was built from.
        """
        return Blueprint(
            model=model,
            input_shape=self.input_shape,
            classes=self.classes,
            head_mode=self.head_mode,
            units=self.units,
            costs=self._costs(),
            exits=self.exit_mode,
        )

    @property
    def sample(self) -> torch.Tensor:
        """One input with a batch dimension of 1."""
        return self._sample

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample, without the batch."""
        return tuple(self._sample.shape[1:])

    def original_state_dict(self) -> dict[str, torch.Tensor]:
        """The state of the full-depth model under the names of the user's own model.

        ``model.load_state_dict(layered.original_state_dict())`` loads it back. What the user's forward does not
        use in evaluation, such as auxiliary classifiers, is not part of it (``strict=False`` leaves it alone).
        """
        kept = {unit.id for unit in self.layer_units} | {f"H{self._full_depth}"}
        split = ((*name.partition("."), value) for name, value in self.state_dict().items())
        return {original: value for unit_id, _, original, value in split if unit_id in kept}

    def _costs(self) -> tuple[DepthCost, ...]:
        if self.exit_mode not in self._measured:
            layers = list(self.layers)
            heads = [self.get_submodule(unit.id) for unit in self.head_units]
            runs = measure_costs(layers, heads, self._sample, all_exits=self.exit_mode == "all")
            of_layers = accumulate(unit.parameters for unit in self.layer_units)
            of_heads = [unit.parameters for unit in self.head_units]
            if self.exit_mode == "all":
                of_heads = list(accumulate(of_heads))
            self._measured[self.exit_mode] = tuple(
                DepthCost(depth, prefix + held, run.forward_macs, run.activation_bytes)
                for depth, prefix, held, run in zip(self.depths, of_layers, of_heads, runs, strict=True)
            )
        return self._measured[self.exit_mode]

    def _check(self, depth: int) -> None:
        if depth not in self.depths:
            raise ValueError(f"depth {depth} is not between 1 and {self._full_depth}")


class Submodel(nn.Module):
    """What one device trains: the first layers and its exit heads, under the names of the whole model.

    Args:
        parts: ``L1`` .. ``Ld``, then one head ``Hd`` or all of ``H1`` .. ``Hd``, by id.
        depth: d.

    Attributes:
        depth: as above.
        checkpointing: whether layers are computed again in the backward pass, which saves their activations.
    """

    def __init__(self, parts: Mapping[str, nn.Module], depth: int) -> None:
        super().__init__()
        self.depth = depth
        self.checkpointing = False
        self.training = parts[f"L{depth}"].training
        self._path = tuple(
            (f"L{number}", f"H{number}" if f"H{number}" in parts else None) for number in range(1, depth + 1)
        )
        for unit_id, module in parts.items():
            self.add_module(unit_id, module)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The logits [batch, classes] of its own, deepest exit."""
        held = cast("dict[str, nn.Module]", self._modules)
        for layer, _ in self._path:
            x = self._pass(held[layer], x)
        logits: torch.Tensor = held[f"H{self.depth}"](x)
        return logits

    def exits(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The logits of all exits that it holds, shallowest first, in one pass through the layers."""
        held = cast("dict[str, nn.Module]", self._modules)
        logits = []
        for layer, head in self._path:
            x = self._pass(held[layer], x)
            if head is not None:
                logits.append(held[head](x))
        return tuple(logits)

    def _pass(self, layer: nn.Module, x: Any) -> Any:
        # What is passed on beside the feature, such as a mask, is small: such layers are left as they are.
        again = self.checkpointing and torch.is_grad_enabled() and isinstance(x, torch.Tensor) and _gives_tensor(layer)
        return recomputed(layer, x) if again else layer(x)


def check_outputs(classes: int) -> None:
    """Whether a model tells classes apart by the cross entropy of their logits; with one there is nothing to learn.

    Raises:
        PartitionError: it has a single output.
    """
    if classes == 1:
        raise PartitionError(
            "the model has one output, and the cross entropy of one class is always 0: give it one output for each "
            "class, two for yes and no ([model] classes = 2); detectors with a single logit are not supported yet"
        )


def _gives_tensor(layer: nn.Module) -> bool:
    """Whether a layer passes on its feature alone."""
    if not isinstance(layer, torch.fx.GraphModule):
        return True  # a block, which is checked to
    return isinstance(next(reversed(layer.graph.nodes)).args[0], torch.fx.Node)
