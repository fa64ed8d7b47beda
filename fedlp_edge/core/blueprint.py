"""What everybody must know about a split model, without having torch.

A *blueprint* is the description of a layered model as plain data: which units exist, which tensors
each one holds, and what each depth costs. The coordinator plans, counts and aggregates with it, and
devices compare its digest with the one that their own copy of the model gives.

A **unit** is what is exchanged, drawn and averaged: layer ``L1`` .. ``LD`` or exit head ``H1`` .. ``HD``.
Depth ``d`` runs through layers ``L1`` .. ``Ld`` and head ``Hd``; ``HD`` is the user's own classifier. A device of
depth ``d`` holds these, and where all exits are trained the heads ``H1`` .. ``Hd-1`` of the shallower depths too.
A model that is scaled by width has levels in the place of depths: each holds a leading block of every tensor.
"""

from __future__ import annotations

import hashlib
import math
from functools import cached_property
from typing import Literal

import msgspec

from fedlp_edge.core.step_cost import StepCost

HeadMode = Literal["shared", "personal"]
ExitMode = Literal["own", "all"]
TensorKind = Literal["trained", "statistic", "constant"]
"""What becomes of a tensor: an optimiser changes it, and its changes are averaged; it follows the data that pass by
(means and variances of a BatchNorm), and its values are averaged; or nothing changes it (a mask, a frozen weight), and
devices get it once."""


class TensorSpec(msgspec.Struct, frozen=True):
    """One tensor of the model; all that devices get or send are float32.

    Attributes:
        name: key in ``LayeredModel.state_dict()``.
        shape: dimensions; ``()`` for a scalar.
        kind: whether its changes or its values are averaged.
        least: lower bound of its values: 0 for a variance; None for no bound.
    """

    name: str
    shape: tuple[int, ...]
    kind: TensorKind = "trained"
    least: float | None = None

    @property
    def trainable(self) -> bool:
        """Whether an optimiser changes it."""
        return self.kind == "trained"

    @property
    def numel(self) -> int:
        """Number of scalars."""
        return math.prod(self.shape)


class Unit(msgspec.Struct, frozen=True):
    """A layer or an exit head.

    Attributes:
        id: ``"L3"`` or ``"H3"``; also the last level of its MQTT topic.
        name: for people, from the model's own module names (``"layer2.0"``).
        kind: ``"layer"`` or ``"head"``.
        depth: its number, from 1.
        tensors: what is exchanged of it in each round, in ``state_dict`` order, integer buffers left out.
        constants: what nothing changes, in the same order: sent to a device once, and never by one.
    """

    id: str
    name: str
    kind: Literal["layer", "head"]
    depth: int
    tensors: tuple[TensorSpec, ...]
    constants: tuple[TensorSpec, ...] = ()

    @property
    def state_names(self) -> tuple[str, ...]:
        """Keys of its tensors in the state of the layered model, the constant ones last."""
        return tuple(t.name for t in (*self.tensors, *self.constants))

    @property
    def fixed(self) -> Unit:
        """Its constants as a download of their own, ``"L3c"``: it stays the same while the unit changes."""
        return Unit(f"{self.id}c", f"constants of {self.name}", self.kind, self.depth, self.constants)

    @property
    def parameters(self) -> int:
        """Trainable scalars; buffers do not count."""
        return sum(t.numel for t in self.tensors if t.trainable)

    @property
    def nbytes(self) -> int:
        """Bytes of what is exchanged of it as float32, statistics included."""
        return 4 * sum(t.numel for t in self.tensors)


class DepthCost(msgspec.Struct, frozen=True):
    """What training one depth costs, with all the heads that it holds; per sample where it depends on the batch.

    Attributes:
        depth: from 1.
        parameters: trainable scalars of the prefix and its heads.
        forward_macs: multiply-accumulates of convolutions and linear layers, one sample.
        activation_bytes: bytes that autograd keeps for the backward pass, one sample.
        step: one training step watched closely; None where nobody asked for it.
    """

    depth: int
    parameters: int
    forward_macs: int
    activation_bytes: int
    step: StepCost | None = None


class BuildCost(msgspec.Struct, frozen=True):
    """What building a model takes on top of the idle worker, beside the model: somebody's package comes with it.

    Attributes:
        libraries: bytes that stay: what the model's package has imported.
        peak: bytes at the highest moment, the whole model included.
    """

    libraries: int = 0
    peak: int = 0


class Blueprint(msgspec.Struct, frozen=True, dict=True):
    """A layered model as data.

    Attributes:
        model: the specification it was built from (``"fedlp-cnn"``, ``"torchvision:resnet18"``).
        input_shape: of one sample, without the batch dimension.
        classes: number of logits.
        head_mode: whether shallow heads are averaged (``"shared"``) or stay on their device.
        units: ``L1`` .. ``LD``, then ``H1`` .. ``HD``.
        costs: one per depth, shallowest first.
        exits: whether a device of depth d holds and trains head d alone (``"own"``) or heads 1 to d (``"all"``).
        building: what building takes; nothing for a model that comes with FedLP Edge, or where nobody asked.
        widths: of a model scaled by width, the units of every level with the shapes of their leading blocks.
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
        """What is odd about the split, in words; empty if nothing is."""
        if self.full_depth > 1:
            return ""
        return (
            "the model has one depth only: every device must train the whole of it, and one that cannot takes no part; "
            "let [model] depths allow more, or give the model as a list of blocks (docs/partition.md)"
        )

    def is_global(self, unit: Unit) -> bool:
        """Whether the coordinator holds it; a personal head never leaves its device."""
        return unit.kind == "layer" or self.head_mode == "shared" or unit.depth == self.full_depth

    @cached_property
    def global_units(self) -> tuple[Unit, ...]:
        """What makes up the global model."""
        return tuple(unit for unit in self.units if self.is_global(unit))

    def exit_path(self, depth: int) -> tuple[Unit, ...]:
        """Layers 1 to ``depth`` and the head of ``depth``, personal or not: what computes its logits."""
        if depth not in self.depths:
            raise ValueError(f"depth {depth} is not between 1 and {self.full_depth}")
        if self.widths:
            return self.widths[depth - 1]
        return tuple(u for u in self.units if (u.depth <= depth if u.kind == "layer" else u.depth == depth))

    @cached_property
    def nested_shapes(self) -> dict[str, tuple[int, ...]]:
        """Whole shape of every tensor of which devices may send leading blocks, for `LayerwiseMean`."""
        return {t.name: t.shape for unit in self.units for t in unit.tensors} if self.widths else {}

    @cached_property
    def statistics(self) -> frozenset[str]:
        """Names of the tensors whose values are averaged, not their changes."""
        return frozenset(t.name for unit in self.units for t in unit.tensors if t.kind == "statistic")

    def held_by(self, depth: int) -> tuple[Unit, ...]:
        """What a device of ``depth`` trains: the path of its exit, and with ``exits="all"`` the shallower heads."""
        path = self.exit_path(depth)
        return path if self.exits == "own" else tuple(u for u in self.units if u.depth <= depth)

    def exchanged_by(self, depth: int) -> tuple[Unit, ...]:
        """What a device of ``depth`` downloads in each round, and uploads unless it is pruned."""
        return tuple(unit for unit in self.held_by(depth) if self.is_global(unit))

    def personal_of(self, depth: int) -> tuple[Unit, ...]:
        """The heads that a device of ``depth`` trains and never sends; none if heads are shared."""
        return tuple(unit for unit in self.held_by(depth) if not self.is_global(unit))

    def downloads_of(self, depth: int) -> tuple[Unit, ...]:
        """All that a device of ``depth`` downloads: what it exchanges, and the constants of it."""
        units = self.exchanged_by(depth)
        return (*units, *(unit.fixed for unit in units if unit.constants))

    @cached_property
    def downloads(self) -> dict[str, Unit]:
        """Everything that some device downloads, by id."""
        units = self.global_units
        return {unit.id: unit for unit in (*units, *(unit.fixed for unit in units if unit.constants))}

    @cached_property
    def constants(self) -> frozenset[str]:
        """Names of the constant tensors of the global model."""
        return frozenset(t.name for unit in self.global_units for t in unit.constants)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything that two copies must agree on (costs are not part of it)."""
        agreed = (self.input_shape, self.classes, self.head_mode, self.exits, self.units, self.widths)
        return hashlib.sha256(msgspec.json.encode(agreed)).hexdigest()
