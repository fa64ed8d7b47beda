"""Defines a model as an ordered list of layers with an exit head per depth.

This module gives every exchanged tensor its name: the tensors of layer 3 are named ``L3.`` and those of its exit head
``H3.``, followed by their name in the user's model. The part before the first dot is therefore the id of the unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Literal, cast

import torch
import torch.fx
from torch import nn

from fedlp_edge.core.blueprint import Blueprint, DepthCost, ExitMode, HeadMode, Unit, answer_mode
from fedlp_edge.core.metrics.answers import AnswerMode
from fedlp_edge.learning.model.activation_checkpointing import recomputed
from fedlp_edge.learning.model.costs import measure_costs
from fedlp_edge.learning.model.freezing import check_trainable, freeze_parts
from fedlp_edge.learning.model.heads import feature_of
from fedlp_edge.learning.model.module_copies import copied, without_sparse_gradients
from fedlp_edge.learning.model.tensor_kinds import kinds_of, specs_of

Named = tuple[str, nn.Module]
"""A name for people, and the module that has it."""


class LayeredModel(nn.Module):
    """A model with layers ``L1`` .. ``LD`` and exit heads ``H1`` .. ``HD``, as `fedlp_edge.partition` builds it.

    ``model(x)`` returns the logits [B, classes] of the deepest exit, ``model(x, depth=d)`` those of exit d. At full
    depth it is the user's model: it has the user's modules and computes the user's outputs.

    Args:
        layers: Name and module of each layer, from the input on.
        heads: Name and module of each exit head, shallowest first; as many as layers.
        sample: One input, [1, ...]; costs are measured with its shape and type.
        classes: Number of logits.
        head_mode: Whether shallow heads are averaged (``"shared"``) or stay on their device (``"personal"``).
        exit_mode: Whether a submodel holds the head of its depth (``"own"``) or all heads up to its depth (``"all"``).

    Attributes:
        classes: Number of logits.
        head_mode: ``"shared"`` if shallow heads are averaged, ``"personal"`` if they stay on their device.
        exit_mode: ``"own"`` if a submodel holds the head of its depth, ``"all"`` if it holds all heads up to it.
        units: All layers, then all heads, as plain data.

    Raises:
        ValueError: There are no layers, or not as many heads as layers.
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
        parts_of: tuple[tuple[Literal["layer", "head"], Sequence[Named]], ...] = (("layer", layers), ("head", heads))
        for kind, parts in parts_of:
            for depth, (name, module) in enumerate(parts, start=1):
                unit_id = f"{'L' if kind == 'layer' else 'H'}{depth}"
                self.add_module(unit_id, module)
                units.append(Unit(unit_id, name, kind, depth, ()))
        self.units: tuple[Unit, ...] = self._described(units)
        self.register_state_dict_post_hook(_keep_tensors)  # type: ignore[no-untyped-call]
        self.training = layers[-1][1].training  # The modules stay in the mode, training or evaluation, that they have.

    @property
    def depths(self) -> range:
        """All depths: 1 to the number of layers."""
        return range(1, self._full_depth + 1)

    @property
    def layers(self) -> nn.ModuleList:
        """The modules of layers 1 to D, in order; each takes the output of the one before (no copies)."""
        return nn.ModuleList(self.get_submodule(unit.id) for unit in self.layer_units)

    @property
    def layer_units(self) -> tuple[Unit, ...]:
        """The layers as plain data: name, number of parameters, names of their tensors."""
        return self.units[: self._full_depth]

    @property
    def head_units(self) -> tuple[Unit, ...]:
        """The exit heads as plain data; the last one is the classifier of the user's model."""
        return self.units[self._full_depth :]

    def forward(self, x: torch.Tensor, depth: int | None = None) -> torch.Tensor:
        """Returns the logits of one exit.

        Args:
            x: Batch of samples, [B, ...].
            depth: Depth of the exit; None for the deepest one.

        Returns:
            Logits, float32 [B, classes].

        Raises:
            ValueError: The model has no such depth.
        """
        depth = self._full_depth if depth is None else depth
        passed = self._passed_on(x, depth)
        logits: torch.Tensor = self.get_submodule(f"H{depth}")(passed)
        return logits

    def activations(self, x: torch.Tensor, depth: int) -> torch.Tensor:
        """Returns the feature of layer ``depth``, [B, ...], before its exit head.

        Raises:
            ValueError: The model has no such depth.
        """
        return feature_of(self._passed_on(x, depth))

    def _passed_on(self, x: torch.Tensor, depth: int) -> Any:
        """Returns the output of layer ``depth``: the feature, and what later layers need beside it, such as a mask."""
        self._check(depth)
        passed: Any = x
        for number in range(1, depth + 1):
            passed = self.get_submodule(f"L{number}")(passed)
        return passed

    def exits(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Returns the logits [B, classes] of all exits, shallowest first, from one pass through the layers."""
        logits = []
        for depth in self.depths:
            x = self.get_submodule(f"L{depth}")(x)
            logits.append(self.get_submodule(f"H{depth}")(x))
        return tuple(logits)

    def submodel(self, depth: int, exits: ExitMode | None = None) -> Submodel:
        """Returns a copy of the layers and heads that a device of this depth holds.

        The copy shares no parameter with this model. Its state names are among those of this model, and it computes
        what ``self(x, depth=depth)`` computes.

        Args:
            depth: Depth, from 1.
            exits: ``"own"`` for the head of this depth, ``"all"`` for all heads up to it; None for ``exit_mode``.

        Raises:
            ValueError: The model has no such depth.
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
        """Returns the description of this model as plain data, costs included.

        Args:
            model: Specification that the model was built from, such as ``"torchvision:resnet18"``.
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
    def answer(self) -> AnswerMode:
        """What an exported model of a depth answers with, see ``Blueprint.answer``."""
        return answer_mode(self.exit_mode, self.head_mode)

    @property
    def sample(self) -> torch.Tensor:
        """One input, [1, ...]."""
        return self._sample

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample, without the batch dimension."""
        return tuple(self._sample.shape[1:])

    def freeze(self, *patterns: str) -> None:
        """Freezes what patterns name, in place: nothing trains it, and devices download it once.

        The parameters are those of the user's model. The statistics of frozen batch norms do not change either.

        Args:
            patterns: Patterns on names of modules or parameters of the user's model, or ids of units, such as
                ``"stem"``, ``"layer1.*"`` and ``"L2"``.

        Raises:
            FreezeError: A pattern matches nothing, or a depth would have nothing left to train.
        """
        parts = {unit.id: self.get_submodule(unit.id) for unit in self.units}
        freeze_parts(parts, f"H{self._full_depth}", patterns)
        check_trainable(parts, self.depths, all_exits=self.exit_mode == "all")
        self.units = self._described(self.units)
        self._measured.clear()

    def original_state_dict(self) -> dict[str, torch.Tensor]:
        """Returns the state of the full-depth model under the names of the user's model.

        ``model.load_state_dict(layered.original_state_dict())`` loads it into the user's model. Modules that the
        user's forward does not use in evaluation, such as auxiliary classifiers, are missing (use ``strict=False``).
        """
        full_path = {unit.id for unit in self.layer_units} | {f"H{self._full_depth}"}
        split = ((*name.partition("."), value) for name, value in self.state_dict().items())
        return {original: value for unit_id, _, original, value in split if unit_id in full_path}

    def _described(self, units: Sequence[Unit]) -> tuple[Unit, ...]:
        """Returns the units with the tensors that their modules have now."""
        modules = [self.get_submodule(unit.id) for unit in units]
        kinds = kinds_of(modules[: self._full_depth], modules[self._full_depth :], self._sample)
        return tuple(
            Unit(unit.id, unit.name, unit.kind, unit.depth, *specs_of(unit.id, module, kinds))
            for unit, module in zip(units, modules, strict=True)
        )

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
    """The model that one device trains: its first layers and exit heads, under the names of the whole model.

    Args:
        parts: Modules by unit id: ``L1`` .. ``Ld``, then the head ``Hd`` or all of ``H1`` .. ``Hd``.
        depth: Depth d.
        answer: What it answers with: its deepest exit, or the mean of all its exits.

    Attributes:
        depth: Depth d.
        answer: What it answers with.
        checkpointing: Whether layers are computed again in the backward pass instead of storing their activations.
    """

    def __init__(self, parts: Mapping[str, nn.Module], depth: int, answer: AnswerMode = "exit") -> None:
        super().__init__()
        self.depth = depth
        self.answer: AnswerMode = answer
        self.checkpointing = False
        self.training = parts[f"L{depth}"].training
        self._path = tuple(
            (f"L{number}", f"H{number}" if f"H{number}" in parts else None) for number in range(1, depth + 1)
        )
        for unit_id, module in parts.items():
            self.add_module(unit_id, module)
        self.register_state_dict_post_hook(_keep_tensors)  # type: ignore[no-untyped-call]

    @property
    def exit_depths(self) -> tuple[int, ...]:
        """Depths of the exits that it holds, shallowest first."""
        return tuple(number for number, (_, head) in enumerate(self._path, start=1) if head is not None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the logits [B, classes] of the deepest exit, or the mean of those of all exits, see ``answer``."""
        if self.answer == "mean":
            return self.answers(x)[-1]
        held = cast("dict[str, nn.Module]", self._modules)
        for layer, _ in self._path:
            x = self._pass(held[layer], x)
        logits: torch.Tensor = held[f"H{self.depth}"](x)
        return logits

    def exits(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Returns the logits [B, classes] of all exits that it holds, shallowest first, from one pass."""
        held = cast("dict[str, nn.Module]", self._modules)
        logits = []
        for layer, head in self._path:
            x = self._pass(held[layer], x)
            if head is not None:
                logits.append(held[head](x))
        return tuple(logits)

    def answers(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Returns what models of the depths of its exits answer, shallowest first, from one pass.

        Returns:
            Logits [B, classes] of each exit, or the means of those of the exits up to it.
        """
        return answers_of(self.exits(x), self.answer)

    def _pass(self, layer: nn.Module, x: Any) -> Any:
        # Only layers from one tensor to one tensor are checkpointed; those with a mask beside the feature are not.
        again = (
            self.checkpointing
            and torch.is_grad_enabled()
            and isinstance(x, torch.Tensor)
            and _gives_tensor(layer)
            and _needs_backward(layer, x)
        )
        return recomputed(layer, x) if again else layer(x)


def _keep_tensors(_model: nn.Module, state: dict[str, Any], _prefix: str, _metadata: Any) -> None:
    """Leaves out what modules pickle beside their tensors (``get_extra_state``): nothing exchanges or counts it."""
    for name in [name for name, value in state.items() if not isinstance(value, torch.Tensor)]:
        del state[name]


def answers_of(exits: Sequence[torch.Tensor], answer: AnswerMode) -> tuple[torch.Tensor, ...]:
    """Returns what models answer, from the outputs of their exits.

    Args:
        exits: Outputs [B, outputs] of exits, shallowest first; for means, of all exits from depth 1 on.
        answer: What each model answers with.
    """
    if answer == "exit":
        return tuple(exits)
    return tuple(total / number for number, total in enumerate(accumulate(exits), start=1))


def _needs_backward(layer: nn.Module, x: torch.Tensor) -> bool:
    """Returns whether the backward pass goes through a layer at all, which it does not where all below is frozen."""
    return x.requires_grad or any(parameter.requires_grad for parameter in layer.parameters())


def _gives_tensor(layer: nn.Module) -> bool:
    """Returns whether the output of a layer is its feature alone."""
    if not isinstance(layer, torch.fx.GraphModule):
        return True  # The splitting has checked that a block returns one tensor.
    last = next(iter(reversed(layer.graph.nodes)))  # torch 2.6 gives a sequence, and no iterator
    return isinstance(last.args[0], torch.fx.Node)
