"""The model that a worker has ready, so that a round does not begin with building it.

One at a time: a coordinator's worker keeps the whole model, a device's worker keeps the submodel of its
depth and lets go of the rest, which is the point of giving it a smaller depth.
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
from fedlp_edge.learning.zoo.build import build_model


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """A model on its processor.

    Attributes:
        model: the whole model, or a submodel.
        blueprint: of the whole model.
        untouched: initial values of what is not exchanged (integers, such as counters of batches), by name.
    """

    model: nn.Module
    blueprint: Blueprint
    untouched: dict[str, Tensor]

    @property
    def nbytes(self) -> int:
        """Memory that its values take, bytes."""
        return sum(value.nbytes for value in self.model.state_dict().values())

    @torch.no_grad()
    def forget_rounds(self) -> None:
        """Sets back what earlier rounds left behind, so that a repeated round computes the same."""
        held = self.model.state_dict()
        for name, value in self.untouched.items():
            held[name].copy_(value)


class PreparedModels:
    """Builds models and keeps the last one.

    Args:
        device: where submodels train.
        allow_models: ``module:callable`` names that may be imported.
    """

    def __init__(self, device: torch.device, allow_models: tuple[str, ...]) -> None:
        self._device = device
        self._allow_models = allow_models
        self._whole: tuple[ModelSettings, LayeredModel, Blueprint] | None = None
        self._part: tuple[ModelSettings, int, PreparedModel] | None = None

    def fresh(self, settings: ModelSettings, seed: int) -> tuple[LayeredModel, Blueprint]:
        """A newly built model with seeded values, on the CPU."""
        model = self.build(settings, seed)
        blueprint = model.blueprint(settings.name)
        self._whole, self._part = (settings, model, blueprint), None
        return model, blueprint

    def build(self, settings: ModelSettings, seed: int) -> LayeredModel:
        """A newly built model with seeded values that is not kept."""
        return build_model(settings, seed, allow_models=self._allow_models)

    def whole(self, settings: ModelSettings) -> tuple[LayeredModel, Blueprint]:
        """The whole model, with any values, on whichever processor used it last."""
        if self._whole is not None and self._whole[0] == settings:
            return self._whole[1], self._whole[2]
        return self.fresh(settings, seed=0)

    def part(self, settings: ModelSettings, depth: int) -> PreparedModel:
        """The submodel of a depth, on the processor, with any values; the whole model is let go.

        Raises:
            ModelError: there is no such depth.
        """
        if self._part is not None and self._part[:2] == (settings, depth):
            return self._part[2]
        model, blueprint = self.whole(settings)
        if depth not in blueprint.depths:
            raise ModelError(f"{settings.name} has depths 1 to {blueprint.full_depth}, not {depth}")
        part = prepare(model.submodel(depth), blueprint, self._device)
        self._whole, self._part = None, (settings, depth, part)
        return part


def prepare(model: nn.Module, blueprint: Blueprint, device: torch.device) -> PreparedModel:
    """A model that was built just now, brought to its processor."""
    model = model.to(device)
    untouched = {name: value.clone() for name, value in model.state_dict().items() if not value.is_floating_point()}
    return PreparedModel(model, blueprint, untouched)


def tensor_names(units: Iterable[Unit]) -> list[str]:
    """Names of what is exchanged of some units, in order."""
    return [tensor.name for unit in units for tensor in unit.tensors]


def state_names(units: Iterable[Unit]) -> list[str]:
    """Names of all floating tensors of some units, constants included."""
    return [name for unit in units for name in unit.state_names]
