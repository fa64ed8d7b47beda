"""Describes a split model as plain data, for code that does not load torch.

A *blueprint* says which units a layered model has, which tensors each unit has, and what each depth costs. The
coordinator plans, counts and aggregates with it, and devices compare its digest with that of their copy of the model.

A *unit* is exchanged, drawn and averaged as one: layer ``L1`` .. ``LD`` or exit head ``H1`` .. ``HD``. Depth ``d``
consists of layers ``L1`` .. ``Ld`` and head ``Hd``; ``HD`` is the classifier of the user's model. A device of depth
``d`` holds these units, and also the heads ``H1`` .. ``Hd-1`` if all exits are trained. A model that is scaled by width
has levels instead of depths: each level holds a leading block of every tensor.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Literal

import msgspec

from fedlp_edge.core.metrics.answers import AnswerMode, WantedAnswer
from fedlp_edge.core.step_cost import StepCost

HeadMode = Literal["shared", "personal"]
ExitMode = Literal["own", "all"]
TensorKind = Literal["trained", "statistic", "constant"]
"""Kinds of tensors. ``trained``: an optimizer changes it, and its deltas are averaged. ``statistic``: it follows the
data (mean or variance of a BatchNorm), and its values are averaged. ``constant``: nothing changes it (a mask, a frozen
weight), and devices download it once."""


class TensorSpec(msgspec.Struct, frozen=True):
    """The description of one float32 tensor of the model.

    Attributes:
        name: Key in ``LayeredModel.state_dict()``.
        shape: Dimensions; ``()`` for a scalar.
        kind: Kind of the tensor, which decides whether its deltas or its values are averaged, or nothing.
        least: Lower bound of its values, such as 0 for a variance; None for no bound.
    """

    name: str
    shape: tuple[int, ...]
    kind: TensorKind = "trained"
    least: float | None = None

    @property
    def trainable(self) -> bool:
        """Whether an optimizer changes the tensor."""
        return self.kind == "trained"

    @property
    def numel(self) -> int:
        """Number of scalars."""
        return math.prod(self.shape)


class Unit(msgspec.Struct, frozen=True):
    """The description of a layer or an exit head.

    Attributes:
        id: Id such as ``"L3"`` or ``"H3"``; also the last level of its MQTT topic.
        name: Name for people, from module names of the user's model (``"layer2.0"``).
        kind: ``"layer"`` or ``"head"``.
        depth: Number of the layer or head, from 1.
        tensors: Tensors that are exchanged in each round, in ``state_dict`` order, without integer buffers.
        constants: Tensors that nothing changes, in ``state_dict`` order; devices download them once.
    """

    id: str
    name: str
    kind: Literal["layer", "head"]
    depth: int
    tensors: tuple[TensorSpec, ...]
    constants: tuple[TensorSpec, ...] = ()

    @property
    def state_names(self) -> tuple[str, ...]:
        """Keys of its tensors in ``LayeredModel.state_dict()``, the constant ones last."""
        return tuple(t.name for t in (*self.tensors, *self.constants))

    @property
    def fixed(self) -> Unit:
        """Its constants as a separate download, such as ``"L3c"``, which does not change when the unit does."""
        return Unit(f"{self.id}c", f"constants of {self.name}", self.kind, self.depth, self.constants)

    @property
    def parameters(self) -> int:
        """Number of trainable scalars; buffers do not count."""
        return sum(t.numel for t in self.tensors if t.trainable)

    @property
    def nbytes(self) -> int:
        """Bytes of its exchanged tensors as float32, statistics included."""
        return 4 * sum(t.numel for t in self.tensors)


class DepthCost(msgspec.Struct, frozen=True):
    """The cost of training one depth, with all heads that its submodel holds.

    Attributes:
        depth: Depth, from 1.
        parameters: Trainable scalars of its layers and heads.
        forward_macs: Multiply-accumulates of convolutions and linear layers in the forward pass of one sample.
        activation_bytes: Bytes that autograd stores for the backward pass, per sample.
        step: Step table; None if the train step was not traced.
    """

    depth: int
    parameters: int
    forward_macs: int
    activation_bytes: int
    step: StepCost | None = None


class BuildCost(msgspec.Struct, frozen=True):
    """The memory for building a model on top of the idle worker, such as for the package that it comes from.

    Attributes:
        libraries: Bytes that stay allocated, by the modules that the model's package imports.
        peak: Bytes at the highest moment, the whole model included.
    """

    libraries: int = 0
    peak: int = 0


class Blueprint(msgspec.Struct, frozen=True, dict=True):
    """The description of a layered model as plain data.

    Attributes:
        model: Specification that it was built from (``"fedlp-cnn"``, ``"torchvision:resnet18"``).
        input_shape: Shape of one sample, without the batch dimension.
        classes: Number of logits.
        head_mode: Whether shallow heads are averaged (``"shared"``) or stay on their device (``"personal"``).
        units: Layers ``L1`` .. ``LD``, then heads ``H1`` .. ``HD``.
        costs: Cost of each depth, shallowest first.
        exits: Whether a device of depth d holds and trains head d (``"own"``) or heads 1 to d (``"all"``).
        building: Memory for building the model; zeros for a built-in model, or if it was not measured.
        widths: Units of every level, with the shapes of their leading blocks, of a model that is scaled by width;
            otherwise empty.
    """

    model: str
    input_shape: tuple[int, ...]
    classes: int
    head_mode: HeadMode
    units: tuple[Unit, ...]
    costs: tuple[DepthCost, ...]
    exits: ExitMode = "own"
    building: BuildCost = BuildCost()
    widths: tuple[tuple[Unit, ...], ...] = ()

    @cached_property
    def by_id(self) -> dict[str, Unit]:
        """Units by their id."""
        return {unit.id: unit for unit in self.units}

    @property
    def depths(self) -> range:
        """All depths, 1 to D."""
        return range(1, len(self.costs) + 1)

    @property
    def full_depth(self) -> int:
        """The deepest depth, D."""
        return len(self.costs)

    @property
    def remark(self) -> str:
        """Warning about the split for people; empty if there is none."""
        if self.full_depth > 1:
            return ""
        return (
            "the model has one depth only: every device must train the whole of it, and one that cannot takes no part; "
            "let [model] depths allow more, or give the model as a list of blocks (docs/partition.md)"
        )

    @property
    def answer(self) -> AnswerMode:
        """What models answer with: the mean of their exits, as in DepthFL, where all depths teach and share them."""
        return answer_mode(self.exits, self.head_mode) if not self.widths else "exit"

    def is_global(self, unit: Unit) -> bool:
        """Returns whether a unit is part of the global model; a personal head never leaves its device."""
        return unit.kind == "layer" or self.head_mode == "shared" or unit.depth == self.full_depth

    @cached_property
    def global_units(self) -> tuple[Unit, ...]:
        """Units of the global model."""
        return tuple(unit for unit in self.units if self.is_global(unit))

    def exit_path(self, depth: int) -> tuple[Unit, ...]:
        """Returns the units that compute the logits of an exit: layers 1 to ``depth`` and the head of ``depth``.

        Raises:
            ValueError: The model has no such depth.
        """
        self._check(depth)
        if self.widths:
            return self.widths[depth - 1]
        return tuple(u for u in self.units if (u.depth <= depth if u.kind == "layer" else u.depth == depth))

    def answer_path(self, depth: int) -> tuple[Unit, ...]:
        """Returns the units that compute what a model of a depth answers, see ``answer``.

        Raises:
            ValueError: The model has no such depth.
        """
        return self.held_by(depth) if self.answer == "mean" else self.exit_path(depth)

    def judged_depths(self, trained: Collection[int]) -> tuple[int, ...]:
        """Returns the depths whose models central test data judge, shallowest first.

        These are the exits that devices train, and the full model. Personal heads are not here, so only the full model
        is then left.

        Args:
            trained: Depths of the devices.
        """
        if self.head_mode == "personal":
            return (self.full_depth,)
        if self.widths:
            return tuple(sorted({*trained, self.full_depth}))
        heads = {unit.depth for depth in trained for unit in self.held_by(depth) if unit.kind == "head"}
        return tuple(sorted(heads | {self.full_depth}))

    def exits_for(self, depths: Sequence[int]) -> tuple[int, ...]:
        """Returns the depths of the exits from which models of some depths answer, shallowest first.

        Args:
            depths: Depths, shallowest first; one at least.
        """
        return tuple(range(1, depths[-1] + 1)) if self.answer == "mean" else tuple(depths)

    @cached_property
    def nested_shapes(self) -> dict[str, tuple[int, ...]]:
        """Whole shape of every tensor that devices may send leading blocks of, by name, for `LayerwiseMean`."""
        return {t.name: t.shape for unit in self.units for t in unit.tensors} if self.widths else {}

    @cached_property
    def statistics(self) -> frozenset[str]:
        """Names of the tensors whose values are averaged instead of their deltas."""
        return frozenset(t.name for unit in self.units for t in unit.tensors if t.kind == "statistic")

    def held_by(self, depth: int) -> tuple[Unit, ...]:
        """Returns the units that a device of ``depth`` trains: its exit path, and with ``exits="all"`` all heads.

        Raises:
            ValueError: The model has no such depth.
        """
        path = self.exit_path(depth)
        return path if self.exits == "own" else tuple(u for u in self.units if u.depth <= depth)

    def exchanged_by(self, depth: int) -> tuple[Unit, ...]:
        """Returns the units that a device of ``depth`` downloads in each round and uploads unless withheld.

        Raises:
            ValueError: The model has no such depth.
        """
        self._check(depth)
        return self._exchanged[depth]

    def personal_of(self, depth: int) -> tuple[Unit, ...]:
        """The heads that a device of ``depth`` trains and never sends; none if heads are shared."""
        return tuple(unit for unit in self.held_by(depth) if not self.is_global(unit))

    def downloads_of(self, depth: int) -> tuple[Unit, ...]:
        """Returns the downloads of a device of ``depth``: the units that it exchanges, and their constants."""
        units = self.exchanged_by(depth)
        return (*units, *(unit.fixed for unit in units if unit.constants))

    def downloads_of_answer(self, depth: int) -> tuple[Unit, ...]:
        """Returns what is downloaded to compute an answer: the global units of its path, and their constants."""
        units = [unit for unit in self.answer_path(depth) if self.is_global(unit)]
        return (*units, *(unit.fixed for unit in units if unit.constants))

    @cached_property
    def downloads(self) -> dict[str, Unit]:
        """All possible downloads by id: the units of the global model, and their constants."""
        units = self.global_units
        return {unit.id: unit for unit in (*units, *(unit.fixed for unit in units if unit.constants))}

    @cached_property
    def constants(self) -> frozenset[str]:
        """Names of the constant tensors of the global model."""
        return frozenset(t.name for unit in self.global_units for t in unit.constants)

    @cached_property
    def _exchanged(self) -> dict[int, tuple[Unit, ...]]:
        """Units by the depth that exchanges them, which several steps of every update ask for."""
        return {depth: tuple(unit for unit in self.held_by(depth) if self.is_global(unit)) for depth in self.depths}

    def _check(self, depth: int) -> None:
        if depth not in self.depths:
            raise ValueError(f"depth {depth} is not between 1 and {self.full_depth}")

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything on which two copies of a model must agree, which costs are not part of."""
        agreed = (self.input_shape, self.classes, self.head_mode, self.exits, self.units, self.widths)
        return hashlib.sha256(msgspec.json.encode(agreed)).hexdigest()


def answer_mode(exits: ExitMode, head_mode: HeadMode, wanted: WantedAnswer = "auto") -> AnswerMode:
    """Returns what models answer with.

    Args:
        exits: Exits that devices train.
        head_mode: Whether they share them.
        wanted: What the owner of the fleet wants.
    """
    return "mean" if (exits, head_mode, wanted) == ("all", "shared", "auto") else "exit"
