"""Scales a model by width: the baseline HeteroFL (Diao et al., arXiv 2010.01264).

Where FedLP gives a weak device fewer layers, HeteroFL gives it fewer channels: level l holds the leading share r_l of
the channels of every layer, and so the leading block of every tensor (section 3.1). HeteroFL has three techniques:

- *Scaler*: the output of a narrowed layer is divided by r_l, as in dropout, so that the next layer gets values of the
  size that they have in the whole model. The whole model has r = 1 and scales nothing.
- *Static BatchNorm*: training uses the statistics of the batch and tracks none, so means and variances are not
  exchanged. They are measured for evaluation, as cumulative averages over training samples.
- *Nested aggregation* is in `fedlp_edge.core.algorithm.aggregation` (leading blocks, ``unsent``).

The masked cross entropy of the paper is an objective (``mask_absent``).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from fedlp_edge.core.blueprint import Blueprint, DepthCost, ExitMode, TensorSpec, Unit
from fedlp_edge.errors import PartitionError
from fedlp_edge.learning.model.costs import measure_costs
from fedlp_edge.learning.model.layered import LayeredModel, Submodel
from fedlp_edge.learning.model.module_copies import copied

DEFAULT_RATIOS = (0.0625, 0.125, 0.25, 0.5, 1.0)
"""Share of the channels of each of HeteroFL's five levels, narrowest first."""


class Scaler(nn.Module):
    """Divides the output of a narrowed layer by the share of its channels (HeteroFL's Scaler).

    Args:
        ratio: Share r of the channels, above 0 and at most 1.
    """

    def __init__(self, ratio: float) -> None:
        super().__init__()
        self.ratio = ratio

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns ``x / r``."""
        return x / self.ratio


def narrowed_channels(channels: int, ratio: float) -> int:
    """Returns ``ceil(ratio * channels)``; a product that is an integer but for rounding errors counts as one."""
    return math.ceil(round(ratio * channels, 6))


@dataclass
class _Signal:
    """The number of channels at one place of the chain.

    Attributes:
        whole: Channels in the whole model.
        left: Channels in the narrow model.
    """

    whole: int
    left: int


class _Narrowing:
    """Makes a narrow copy of a chain of modules, from the input to the logits.

    Args:
        channels: Channels of the input, or its number of values if it is flat; they are never narrowed.
        classifier: Last layer, whose outputs are never narrowed.
        ratio: Share of the channels that all other layers have left.
        tracking: Whether batch norms track running statistics.
    """

    def __init__(self, channels: int, classifier: nn.Module, ratio: float, *, tracking: bool) -> None:
        self._signal = _Signal(channels, channels)
        self._classifier = classifier
        self._ratio = ratio
        self._tracking = tracking

    def of(self, module: nn.Module) -> nn.Module:
        """Returns the narrow copy of the next module of the chain.

        Raises:
            PartitionError: The module is of a kind that cannot be narrowed.
        """
        if isinstance(module, nn.Sequential):
            steps: OrderedDict[str, nn.Module] = OrderedDict()
            for name, child in module.named_children():
                steps[name] = self.of(child)
                if self._is_scaled(child):
                    steps[f"{name}_scaler"] = Scaler(self._ratio)
            sequence = nn.Sequential(steps)
            sequence.training = module.training
            return sequence
        if isinstance(module, (_ConvNd, nn.Linear)):
            return self._layer(module)
        if isinstance(module, _BatchNorm):
            return self._norm(module)
        if any(True for _ in module.state_dict()):
            raise PartitionError(
                f"{type(module).__name__} cannot be narrowed: width scaling takes chains of convolutions, linear "
                'layers and batch norms; use scaling = "depth"'
            )
        return copied(module, [module])

    def _is_scaled(self, module: nn.Module) -> bool:
        return isinstance(module, (_ConvNd, nn.Linear)) and module is not self._classifier and self._ratio != 1

    def _layer(self, module: _ConvNd | nn.Linear) -> nn.Module:
        weight = module.weight
        # After a flattening, each channel gives as many inputs as it had pixels.
        places, rest = divmod(weight.shape[1], self._signal.whole)
        if rest or isinstance(module, _ConvTransposeNd) or (isinstance(module, _ConvNd) and module.groups != 1):
            raise PartitionError(
                f'{module} cannot be narrowed behind {self._signal.whole} channels; use scaling = "depth"'
            )
        whole = weight.shape[0]
        left = whole if module is self._classifier else narrowed_channels(whole, self._ratio)
        given = self._signal.left * places
        narrow = copied(module, [module])
        narrow.weight = _part(weight, left, given)
        if module.bias is not None:
            narrow.bias = _part(module.bias, left)
        if isinstance(narrow, nn.Linear):
            narrow.in_features, narrow.out_features = given, left
        else:
            narrow.in_channels, narrow.out_channels = given, left
        self._signal = _Signal(whole, left)
        return narrow

    def _norm(self, module: _BatchNorm) -> nn.Module:
        left = self._signal.left
        if module.num_features != self._signal.whole:
            raise PartitionError(f'{module} does not follow {self._signal.whole} channels; use scaling = "depth"')
        narrow = type(module)(
            left, eps=module.eps, momentum=None, affine=module.affine, track_running_stats=self._tracking
        ).to(next(module.parameters(), torch.empty(0)).device)
        if module.affine:
            narrow.weight, narrow.bias = _part(module.weight, left), _part(module.bias, left)
        return narrow.train(module.training)


def _part(parameter: torch.Tensor, *sides: int) -> nn.Parameter:
    """Returns a copy of the leading block of a parameter, with these side lengths."""
    block = parameter.detach()[tuple(slice(side) for side in sides)].clone()
    return nn.Parameter(block, requires_grad=parameter.requires_grad)


class WidthModel(LayeredModel):
    """A model with levels of width: level l has all layers, with the leading share r_l of their channels.

    All levels share the last exit head. Evaluation needs the statistics that `measure` finds. Where the interface of
    ``LayeredModel`` asks for a depth, it means the number of a level here.

    Args:
        whole: Chain of convolutions, linear layers and batch norms; not changed, its shallow heads are not used.
        ratios: Share r_l of the channels of each level, narrowest first; the last one is 1.

    Raises:
        PartitionError: A module cannot be narrowed, or the ratios do not rise to 1.
    """

    def __init__(self, whole: LayeredModel, ratios: Sequence[float] = DEFAULT_RATIOS) -> None:
        if not ratios or list(ratios) != sorted(set(ratios)) or ratios[0] <= 0 or ratios[-1] != 1:
            raise PartitionError(f"width ratios must rise to 1 from above 0, not {list(ratios)}")
        self._ratios = tuple(ratios)
        parts = [(unit.name, whole.get_submodule(unit.id)) for unit in whole.units]
        layers, head = parts[: len(whole.layer_units)], parts[-1]
        sample = torch.zeros(1, *whole.input_shape)
        narrowed = narrow_chain([module for _, module in [*layers, head]], sample, 1.0, tracking=False)
        named = [(name, module) for (name, _), module in zip([*layers, head], narrowed, strict=True)]
        super().__init__(
            named[:-1], [*[("", nn.Identity())] * (len(layers) - 1), named[-1]], sample, classes=whole.classes
        )
        for unit in self.head_units[:-1]:
            delattr(self, unit.id)
        self.units = (*self.layer_units, self.head_units[-1])
        self._measured_levels: tuple[Submodel, ...] = ()

    @property
    def width_levels(self) -> range:
        """The numbers of the levels, from 1."""
        return range(1, len(self._ratios) + 1)

    @property
    def depths(self) -> range:
        """The numbers of the levels, for code that asks any ``LayeredModel`` for its depths."""
        return self.width_levels

    def forward(self, x: torch.Tensor, depth: int | None = None) -> torch.Tensor:
        """Returns the logits of one level in evaluation.

        Args:
            x: Batch of samples, [B, ...].
            depth: Number of the level; None for the whole width.

        Returns:
            Logits, float32 [B, classes].

        Raises:
            RuntimeError: `measure` was not called before.
            ValueError: The model has no such level.
        """
        logits: torch.Tensor = self._measured_level(len(self._ratios) if depth is None else depth)(x)
        return logits

    def activations(self, x: torch.Tensor, depth: int) -> torch.Tensor:
        """Returns the feature of one level before the exit head, in evaluation.

        Raises:
            RuntimeError: `measure` was not called before.
            ValueError: The model has no such level.
        """
        narrow = self._measured_level(depth)
        for unit in self.layer_units:
            x = narrow.get_submodule(unit.id)(x)
        return x

    def exits(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Returns the logits [B, classes] of all levels in evaluation, narrowest first.

        Raises:
            RuntimeError: `measure` was not called before.
        """
        return tuple(self._measured_level(level)(x) for level in self.width_levels)

    def submodel(self, depth: int, exits: ExitMode | None = None) -> Submodel:
        """Returns the narrow model of a level for training; its batch norms use the statistics of the batch.

        Raises:
            ValueError: The model has no such level, or ``exits`` is ``"all"``.
        """
        if exits == "all":
            raise ValueError("a width-scaled model has one exit")
        return self._narrow_model(depth, tracking=False)

    @torch.no_grad()
    def measure(self, batches: Iterable[torch.Tensor]) -> None:
        """Measures the statistics of batch norms that evaluation uses, for the present weights.

        Args:
            batches: Batches of normalised training samples, [B, ...]; all batches count alike.
        """
        narrowed = [self._narrow_model(level, tracking=True).train() for level in self.width_levels]
        for x in batches:
            for narrow in narrowed:
                narrow(x)
        self._measured_levels = tuple(narrow.eval() for narrow in narrowed)

    def blueprint(self, model: str = "custom") -> Blueprint:
        """Returns the description as plain data; its ``widths`` has the narrow shapes of every level.

        Args:
            model: Specification that the model was built from.
        """
        return Blueprint(
            model=model,
            input_shape=self.input_shape,
            classes=self.classes,
            head_mode="shared",
            units=self.units,
            costs=tuple(self._cost(level) for level in self.width_levels),
            widths=tuple(self._units_of(level) for level in self.width_levels),
        )

    def _narrow_model(self, level: int, *, tracking: bool) -> Submodel:
        self._check_level(level)
        modules = [self.get_submodule(unit.id) for unit in self.units]
        narrowed = narrow_chain(modules, self._sample, self._ratios[level - 1], tracking=tracking)
        parts = {unit.id: module for unit, module in zip(self.units, narrowed, strict=True)}
        return Submodel(parts, len(self.layer_units))

    def _measured_level(self, level: int) -> Submodel:
        self._check_level(level)
        if not self._measured_levels:
            raise RuntimeError("measure() must be called before a width-scaled model is evaluated")
        return self._measured_levels[level - 1]

    def _check_level(self, level: int) -> None:
        if level not in self.width_levels:
            raise ValueError(f"width level {level} is not between 1 and {len(self._ratios)}")

    def _held_by(self, level: int) -> tuple[Unit, ...]:  # noqa: ARG002 - a level holds all layers, narrower
        """Returns the units of the whole model that a level holds a narrower copy of."""
        return tuple(self.units)

    def _units_of(self, level: int) -> tuple[Unit, ...]:
        state = self.submodel(level).state_dict()
        return tuple(
            Unit(
                unit.id,
                unit.name,
                unit.kind,
                unit.depth,
                tuple(TensorSpec(t.name, tuple(state[t.name].shape), t.kind, t.least) for t in unit.tensors),
                tuple(TensorSpec(t.name, tuple(state[t.name].shape), t.kind, t.least) for t in unit.constants),
            )
            for unit in self._held_by(level)
        )

    def _cost(self, level: int) -> DepthCost:
        narrow = self.submodel(level)
        body = nn.Sequential(*(narrow.get_submodule(unit.id) for unit in self.layer_units))
        run = measure_costs([body], [narrow.get_submodule(self.units[-1].id)], self._sample)[0]
        return DepthCost(level, sum(p.numel() for p in narrow.parameters()), run.forward_macs, run.activation_bytes)


def narrow_chain(
    modules: Sequence[nn.Module], sample: torch.Tensor, ratio: float, *, tracking: bool
) -> list[nn.Module]:
    """Returns narrow copies of the modules of a chain, the last of which holds the classifier.

    Args:
        modules: Modules in order, from the input to the logits.
        sample: One input, [1, ...].
        ratio: Share of the channels of every layer but the classifier.
        tracking: Whether batch norms track the statistics of their batches, for evaluation.

    Raises:
        PartitionError: A module cannot be narrowed.
    """
    layers = [m for module in modules for m in module.modules() if isinstance(m, (_ConvNd, nn.Linear))]
    if not layers:
        raise PartitionError("a model without convolutions and linear layers has no width")
    first = layers[0].weight.shape[1]
    channels = sample.shape[1] if isinstance(layers[0], _ConvNd) else first
    narrowing = _Narrowing(int(channels), layers[-1], ratio, tracking=tracking)
    return [narrowing.of(module) for module in modules]
