"""FIARSE: a device trains the weights of largest magnitude, as many as its size allows.

Wu et al., "FIARSE: Model-Heterogeneous Federated Learning via Importance-Aware Submodel Extraction", NeurIPS 2024
(arXiv 2407.19389). The importance of a weight is its magnitude. A device of size s gets the share s of the weights of
every layer, those above a threshold theta, and computes with the others as zeros. Gradients go through the mask too:

    dL/dw = g (1 + 2 theta |w| / (|w| + theta)^2) where |w| >= theta, and 0 elsewhere,

with g the gradient of the masked weight. The server averages every weight over the devices that held it. Norms are not
masked. Thresholds are layer by layer, as in the authors' ``fiarse_layerwise``, so that a share s of the weights is a
share s of the multiply-accumulates, and the batch norms use the statistics of the batch. The whole model is judged.

Single weights, not channels, are left out, so only a machine with sparse kernels computes less, and all activations are
there. Here a device of size s is counted with the share s of the multiply-accumulates all the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlp_edge.core.accounting import download_bytes, upload_bytes
from fedlp_edge.core.algorithm.aggregation import Array, LayerwiseMean
from fedlp_edge.core.algorithm.global_model import GlobalModel
from fedlp_edge.core.blueprint import Blueprint, DepthCost, TensorSpec, Unit
from fedlp_edge.core.settings import BroadcastEncoding, Encoding, ModelSettings
from fedlp_edge.learning.model.layered import LayeredModel, Submodel
from fedlp_edge.learning.model.module_copies import copied
from fedlp_edge.learning.model.width import WidthModel
from fedlp_edge.learning.zoo.build import build_untrained

SIZES = (0.25, 0.390625, 0.5625, 0.66015625, 1.0)
"""Share of the weights of each level: the squares of HeteroFL's wide ratios, which have about as many weights."""

_MASK = "_mask"


class ImportanceMasks(WidthModel):
    """A model with levels: level l has all layers, with the largest weights of each alone.

    Every masked tensor has a second one beside it, with 1 where a device held the weight, by which the server tells who
    counts for what. A real device need not send it, as it follows from the weights that everybody has.

    Args:
        whole: Chain of convolutions, linear layers and batch norms; not changed, its shallow heads are not used.
        sizes: Share of the weights of each level, smallest first; the last one is 1.
    """

    def __init__(self, whole: LayeredModel, sizes: tuple[float, ...] = SIZES) -> None:
        super().__init__(whole, (1.0,))
        self._ratios = sizes
        for unit in self.units:
            self.add_module(unit.id, _masked(self.get_submodule(unit.id), 1.0))
        self.units = tuple(
            Unit(unit.id, unit.name, unit.kind, unit.depth, _with_masks(unit, self.get_submodule(unit.id)))
            for unit in self.units
        )

    def _narrow_model(self, level: int, *, tracking: bool) -> Submodel:
        self._check_level(level)
        parts = {}
        for unit in self.units:
            module = _masked(self.get_submodule(unit.id), self._ratios[level - 1])
            parts[unit.id] = _tracking(module) if tracking else module
        return Submodel(parts, len(self.layer_units))

    def _cost(self, level: int) -> DepthCost:
        whole, size = super()._cost(level), self._ratios[level - 1]
        return DepthCost(level, int(size * whole.parameters), int(size * whole.forward_macs), whole.activation_bytes)


class ImportanceModel(GlobalModel):
    """A global model whose weights are averaged over the devices that held them."""

    def step(self, round: int, mean: LayerwiseMean) -> None:
        """Takes the model one round further, as `GlobalModel.step` does."""
        super().step(round, _MeanOfHolders(mean))


class _MeanOfHolders(LayerwiseMean):
    """The mean of a round by weight, over those who held it.

    Args:
        mean: The mean over everybody, to which nothing is added any more.
    """

    def __init__(self, mean: LayerwiseMean) -> None:
        super().__init__(1)
        self._everybody = mean.means()

    def means(self) -> dict[str, Array]:
        """Returns the means; 0 where nobody held a weight."""
        found = dict(self._everybody)
        for name in self._everybody:
            if name.endswith(_MASK):
                held, of = found[name], name.removesuffix(_MASK)
                found[of] = np.divide(found[of], held, out=np.zeros_like(held), where=held > 0)
        return found

    def unsent(self, name: str) -> npt.NDArray[np.bool_] | None:
        """Returns where nobody held a weight; None if there is no such place."""
        held = self._everybody.get(name + _MASK)
        return None if held is None or bool((held > 0).all()) else held == 0


class _Held(torch.autograd.Function):
    """Weights of a magnitude of the threshold or more; the others are 0."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, threshold: Tensor) -> Tensor:
        ctx.save_for_backward(weights, threshold)
        return weights * (weights.abs() >= threshold)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        weights, threshold = ctx.saved_tensors
        size = weights.abs()
        through = 1 + (2 * threshold * size / (size + threshold).square()).nan_to_num(nan=0.0)
        return gradient * through * (size >= threshold), None


def held(weights: Tensor, threshold: Tensor) -> Tensor:
    """Returns weights without those below a threshold, with FIARSE's gradient."""
    kept: Tensor = _Held.apply(weights, threshold)
    return kept


class _Masked(nn.Module):
    """What masked layers have in common.

    Attributes:
        size: Share of the weights that the layer computes with.
        threshold: Magnitude of the smallest of them when training began, a scalar.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    size: float
    threshold: Tensor

    def hold(self, layer: nn.Conv2d | nn.Linear, size: float) -> None:
        """Takes copies of the weights of a layer."""
        self.size, self.threshold = size, torch.tensor(0.0)
        self.weight = nn.Parameter(layer.weight.detach().clone())
        self.register_buffer("weight" + _MASK, torch.zeros_like(self.weight, requires_grad=False))
        if layer.bias is not None:
            self.bias = nn.Parameter(layer.bias.detach().clone())
            self.register_buffer("bias" + _MASK, torch.zeros_like(self.bias, requires_grad=False))

    def train(self, mode: bool = True) -> _Masked:
        """Chooses the largest of the present weights; a device does so once, when its training begins."""
        if mode:
            tensors = {name: value.detach() for name, value in self.named_parameters(recurse=False)}
            sizes = torch.cat([value.abs().flatten() for value in tensors.values()])
            self.threshold = sizes.topk(max(1, int(self.size * len(sizes)))).values[-1]
            for name, value in tensors.items():
                self.get_buffer(name + _MASK).copy_(value.abs() >= self.threshold)
        super().train(mode)
        return self

    def kept(self) -> tuple[Tensor, Tensor | None]:
        """Returns weights and bias without the small ones."""
        return held(self.weight, self.threshold), None if self.bias is None else held(self.bias, self.threshold)


class MaskedConv2d(_Masked, nn.Conv2d):  # type: ignore[misc]  # torch declares weight and bias as tensors
    """A convolution with its largest weights alone."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns the convolution of a batch [B, C, H, W]."""
        convolved: Tensor = self._conv_forward(x, *self.kept())
        return convolved


class MaskedLinear(_Masked, nn.Linear):  # type: ignore[misc]  # torch declares weight and bias as tensors
    """A linear layer with its largest weights alone."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns the outputs [B, outputs] of a batch [B, inputs]."""
        return functional.linear(x, *self.kept())


def travelling_bytes(blueprint: Blueprint, level: int, broadcast: BroadcastEncoding, encoding: Encoding) -> int:
    """Returns the bytes of a device's weights on their way down, and of its update on its way up, headers left out.

    Down go the weights that it holds and, unless it holds all, a bit for each that says which; up their changes. What
    is not masked travels as a whole.

    Args:
        blueprint: Blueprint of `ImportanceMasks`.
        level: Level of the device.
        broadcast: Encoding on the way down.
        encoding: Encoding on the way up.
    """
    units = blueprint.exchanged_by(level)
    masks = {tensor.name for unit in units for tensor in unit.tensors if tensor.name.endswith(_MASK)}
    size, total = SIZES[level - 1], 0
    for unit in units:
        for tensor in unit.tensors:
            alone = Unit(unit.id, unit.name, unit.kind, unit.depth, (tensor,))
            nbytes = download_bytes(alone, broadcast) + upload_bytes(alone, encoding)
            if tensor.name + _MASK in masks:
                total += int(size * nbytes) + (tensor.numel // 8 if size < 1 else 0)
            elif tensor.name not in masks:
                total += nbytes
    return total


def fashion_mnist(num_classes: int) -> LayeredModel:
    """``fedlp-cnn-narrow`` with FIARSE's levels, for Fashion-MNIST."""
    return _of((1, 28, 28), num_classes)


def digits(num_classes: int) -> LayeredModel:
    """The same for the digits of scikit-learn."""
    return _of((1, 8, 8), num_classes)


def _of(shape: tuple[int, ...], classes: int) -> LayeredModel:
    settings = ModelSettings(name="fedlp-cnn-narrow", input=shape, classes=classes)
    # Whoever builds a model of this module has seeded the generator with the seed of the run.
    return ImportanceMasks(build_untrained(settings, torch.initial_seed()))


def _with_masks(unit: Unit, module: nn.Module) -> tuple[TensorSpec, ...]:
    """The tensors of a unit and, as values that are averaged, their masks."""
    return tuple(
        TensorSpec(
            f"{unit.id}.{name}",
            tuple(value.shape),
            *(("statistic", 0.0) if name.endswith(_MASK) else ("trained", None)),
        )
        for name, value in module.state_dict().items()
    )


def _masked(module: nn.Module, size: float) -> nn.Module:
    """A copy of a module whose convolutions and linear layers are masked."""
    if isinstance(module, nn.Sequential):
        copy = nn.Sequential()
        for name, child in module.named_children():
            copy.add_module(name, _masked(child, size))
        copy.training = module.training
        return copy
    masked: MaskedConv2d | MaskedLinear
    if isinstance(module, nn.Conv2d):
        masked = MaskedConv2d(
            module.in_channels,
            module.out_channels,
            module.kernel_size,  # type: ignore[arg-type]
            module.stride,  # type: ignore[arg-type]
            module.padding,  # type: ignore[arg-type]
            bias=module.bias is not None,
        )
    elif isinstance(module, nn.Linear):
        masked = MaskedLinear(module.in_features, module.out_features, bias=module.bias is not None)
    else:
        return copied(module, [module])
    masked.hold(module, size)
    masked.training = module.training
    return masked


def _tracking(module: nn.Module) -> nn.Module:
    """A copy of a module whose batch norms track their statistics."""
    if isinstance(module, nn.Sequential):
        copy = nn.Sequential()
        for name, child in module.named_children():
            copy.add_module(name, _tracking(child))
        return copy
    if not isinstance(module, nn.BatchNorm2d):
        return module
    tracking = nn.BatchNorm2d(module.num_features, eps=module.eps, momentum=None)
    tracking.weight, tracking.bias = module.weight, module.bias
    return tracking
