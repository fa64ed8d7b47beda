"""This module caches the model of a worker, so that a round need not build it.

The cache holds one model at a time. A coordinator's worker keeps the whole model. A device's worker keeps only the
submodel of its depth and frees the rest, because a smaller depth is meant to save memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedlp_edge.core.blueprint import Blueprint, Unit
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import ModelError
from fedlp_edge.learning.model.layered import LayeredModel
from fedlp_edge.learning.zoo.build import build_untrained


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """Holds a model on its torch device, ready for rounds.

    Attributes:
        model: Whole model, or submodel of a depth.
        blueprint: Blueprint of the whole model.
        integer_state: Initial values of the integer tensors, such as batch counters, which are not exchanged, by name.
    """

    model: nn.Module
    blueprint: Blueprint
    integer_state: dict[str, Tensor]

    @property
    def nbytes(self) -> int:
        """Memory that parameters and buffers take, bytes."""
        return sum(value.nbytes for value in self.model.state_dict().values())

    @torch.no_grad()
    def forget_rounds(self) -> None:
        """Resets the integer tensors to their initial values, so that a repeated round gives equal results."""
        held = self.model.state_dict()
        for name, value in self.integer_state.items():
            held[name].copy_(value)


class PreparedModels:
    """Builds models and caches the last one.

    Args:
        device: Torch device on which submodels are trained.
        allow_models: Names ``module:callable`` that may be imported.
    """

    def __init__(self, device: torch.device, allow_models: tuple[str, ...]) -> None:
        self._device = device
        self._allow_models = allow_models
        self._whole: tuple[ModelSettings, LayeredModel, Blueprint] | None = None
        self._submodel: tuple[ModelSettings, int, PreparedModel] | None = None

    def new_model(self, settings: ModelSettings, seed: int) -> tuple[LayeredModel, Blueprint]:
        """Builds the whole model on the CPU with seeded initial values, and caches it.

        Raises:
            ModelError: The model is unknown, not allowed, or cannot be built.
            PartitionError: The model cannot be split.
        """
        model = self.build(settings, seed)
        blueprint = model.blueprint(settings.name)
        self._whole, self._submodel = (settings, model, blueprint), None
        return model, blueprint

    def build(self, settings: ModelSettings, seed: int) -> LayeredModel:
        """Builds the whole model on the CPU with seeded initial values, without caching it.

        Raises:
            ModelError: The model is unknown, not allowed, or cannot be built.
            PartitionError: The model cannot be split.
        """
        return build_untrained(settings, seed, allow_models=self._allow_models)

    def full_model(self, settings: ModelSettings) -> tuple[LayeredModel, Blueprint]:
        """Returns the whole model with arbitrary values, on the torch device on which it was used last.

        Raises:
            ModelError: The model is unknown, not allowed, or cannot be built.
            PartitionError: The model cannot be split.
        """
        if self._whole is not None and self._whole[0] == settings:
            return self._whole[1], self._whole[2]
        return self.new_model(settings, seed=0)

    def submodel(self, settings: ModelSettings, depth: int) -> PreparedModel:
        """Returns the submodel of a depth with arbitrary values on the training device, and frees the whole model.

        Raises:
            ModelError: There is no such depth, or the model is unknown, not allowed, or cannot be built.
            PartitionError: The model cannot be split.
        """
        if self._submodel is not None and self._submodel[:2] == (settings, depth):
            return self._submodel[2]
        model, blueprint = self.full_model(settings)
        if depth not in blueprint.depths:
            raise ModelError(f"{settings.name} has depths 1 to {blueprint.full_depth}, not {depth}")
        prepared = prepare(model.submodel(depth), blueprint, self._device)
        self._whole, self._submodel = None, (settings, depth, prepared)
        return prepared


def prepare(model: nn.Module, blueprint: Blueprint, device: torch.device) -> PreparedModel:
    """Moves a newly built model to its torch device and stores the initial values of its integer tensors.

    Args:
        model: Whole model or submodel that no round has used.
        blueprint: Blueprint of the whole model.
        device: Torch device to move the model to.
    """
    model = model.to(device)
    integer_state = {name: value.clone() for name, value in model.state_dict().items() if not value.is_floating_point()}
    return PreparedModel(model, blueprint, integer_state)


def tensor_names(units: Iterable[Unit]) -> list[str]:
    """Returns the names of the tensors of some units that are exchanged, in order."""
    return [tensor.name for unit in units for tensor in unit.tensors]


def state_names(units: Iterable[Unit]) -> list[str]:
    """Returns the names of all floating-point tensors of some units, including constants."""
    return [name for unit in units for name in unit.state_names]
