"""Builds exit heads: small classifiers that make every depth a complete model.

A head must fit the feature of the layer before it, stay small compared with the layers, and export to ONNX with a
dynamic batch size. The shape of the feature alone decides, so every machine builds the same head:

=========================  ==========================================================================
feature                    head
=========================  ==========================================================================
[B, C]                     linear
[B, C, H, W]               average over a g x g grid, flatten, linear; g is the largest of 4, 3, 2, 1 that
                           divides H and W and keeps the depth within its budget of parameters
[B, H, W, C]               as for [B, C, H, W], after moving the channels to the front
[B, C, L]                  average over g intervals, flatten, linear
[B, T, C]                  mean over the tokens, linear
[B, C, ...]                mean over everything but the channels, linear
=========================  ==========================================================================
"""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import nn

from fedlp_edge.errors import PartitionError

_GRIDS = (4, 3, 2, 1)
_MOST_PLACES = 8
_FIRST = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm)
_LAST = (nn.Linear, nn.LayerNorm, nn.MultiheadAttention, nn.Embedding)


class Mean(nn.Module):
    """Averages a feature [B, C, ...] or [B, ..., C] over its tokens or pixels to [B, C].

    Args:
        channels_first: Whether the channels are the second dimension and not the last one.
    """

    def __init__(self, channels_first: bool) -> None:
        super().__init__()
        self._channels_first = channels_first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Averages over all dimensions except the batch and the channels."""
        return x.flatten(2).mean(dim=2) if self._channels_first else x.flatten(1, -2).mean(dim=1)


class Feature(nn.Module):
    """Selects the feature from the output of a layer and moves its batch dimension to the front.

    Args:
        batch: Batch dimension of the feature.
    """

    def __init__(self, batch: int) -> None:
        super().__init__()
        self._batch = batch

    def forward(self, passed: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Returns the feature [B, ...]: the tensor, or the first of several (the others are such as masks)."""
        return feature_of(passed).movedim(self._batch, 0)


class ChannelsToFront(nn.Module):
    """Moves the channels of a feature [B, ..., C] to the second dimension, [B, C, ...]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns ``x`` with its last dimension as the second one."""
        return x.movedim(-1, 1)


def feature_of(passed: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Returns the feature from the output of a layer: the tensor, or the first of several."""
    return passed[0] if isinstance(passed, tuple) else passed


def exit_head(feature: tuple[int, ...], classes: int, *, channels_first: bool, budget: int | None = None) -> nn.Module:
    """Returns a freshly initialised exit head for a feature shape.

    Args:
        feature: Shape of the feature of one sample, without the batch dimension.
        classes: Number of logits.
        channels_first: Whether the channels are the first dimension of ``feature`` and not the last one.
        budget: Largest number of parameters of the head, None for no limit. The head with the coarsest grid is
            returned even if it exceeds the budget.

    Raises:
        PartitionError: The feature of a sample is a scalar.
    """
    if not feature:
        raise PartitionError("a layer that gives one number per sample cannot have an exit; join it with its neighbour")
    steps: OrderedDict[str, nn.Module] = OrderedDict()
    channels = feature[0] if channels_first else feature[-1]
    places = feature[1:] if channels_first else feature[:-1]
    width = channels
    if len(places) == 2 or (len(places) == 1 and channels_first):
        if not channels_first:
            steps["front"] = ChannelsToFront()
        grid = _grid(places, channels, classes, budget)
        sizes = tuple(side // grid for side in places)
        steps["pool"] = nn.AvgPool1d(sizes[0]) if len(sizes) == 1 else nn.AvgPool2d((sizes[0], sizes[1]))
        steps["flatten"] = nn.Flatten()
        width = channels * grid ** len(places)
    elif places:
        steps["mean"] = Mean(channels_first)
    steps["linear"] = nn.Linear(width, classes)
    return nn.Sequential(steps)


def max_pooled_head(
    feature: tuple[int, ...], classes: int, *, channels_first: bool, budget: int | None = None
) -> nn.Module:
    """Returns a freshly initialised exit head on maxima over small places, as the head of a convolutional network is.

    Each side is halved at least once, and until it has 8 places at most and the head is within its budget. Features
    that are no images or windows with channels first get the head that `exit_head` makes.

    Args:
        feature: Shape of the feature of one sample, without the batch dimension.
        classes: Number of logits.
        channels_first: Whether the channels are the first dimension of ``feature`` and not the last one.
        budget: Largest number of parameters of the head, None for no limit; a head with one place may exceed it.

    Raises:
        PartitionError: The feature of a sample is a scalar.
    """
    places = feature[1:]
    if not channels_first or len(places) not in (1, 2):
        return exit_head(feature, classes, channels_first=channels_first, budget=budget)
    kernel = [min(2, side) for side in places]

    def inputs() -> int:
        return feature[0] * math.prod(side // size for side, size in zip(places, kernel, strict=True))

    def too_large() -> bool:
        wide = any(side // size > _MOST_PLACES for side, size in zip(places, kernel, strict=True))
        return wide or (budget is not None and (inputs() + 1) * classes > budget)

    while too_large() and any(size < side for side, size in zip(places, kernel, strict=True)):
        kernel = [min(2 * size, side) for side, size in zip(places, kernel, strict=True)]
    pool = nn.MaxPool1d(kernel[0]) if len(kernel) == 1 else nn.MaxPool2d((kernel[0], kernel[1]))
    return nn.Sequential(
        OrderedDict([("pool", pool), ("flatten", nn.Flatten()), ("linear", nn.Linear(inputs(), classes))])
    )


def has_channels_first(layer: nn.Module, feature: tuple[int, ...]) -> bool:
    """Guesses whether the channels are the first dimension of a layer's feature.

    The last submodule with a known number of output channels decides, if the first or the last dimension alone has
    that size; otherwise its type decides: convolutions and batch norms put channels first, linear layers, layer norms
    and attention last. Without such a submodule, channels are first for images and last for sequences.

    Args:
        layer: Module that computes the feature.
        feature: Shape of the feature of one sample, without the batch dimension.
    """
    if len(feature) < 2:
        return True
    for module in reversed(list(layer.modules())):
        if isinstance(module, _FIRST + _LAST):
            given = _channels(module)
            if feature.count(given) == 1 and given in (feature[0], feature[-1]):
                return feature[0] == given
            return isinstance(module, _FIRST)
    return len(feature) > 2


def replace_classifier(head: nn.Module, classes: int, own: int) -> None:
    """Replaces the last linear layer or convolution with ``own`` outputs by a fresh one with ``classes`` outputs.

    Args:
        head: Classifier of the model, changed in place; it must share no parameter with the user's model.
        classes: Number of logits after the replacement.
        own: Number of logits before the replacement.

    Raises:
        PartitionError: The head has no linear layer or convolution with ``own`` outputs.
    """
    for name, module in reversed(list(head.named_modules())):
        fresh: nn.Module
        if type(module) is nn.Linear and module.out_features == own:
            fresh = nn.Linear(module.in_features, classes, bias=module.bias is not None)
        elif type(module) is nn.Conv2d and module.out_channels == own and module.groups == 1:
            fresh = nn.Conv2d(
                module.in_channels,
                classes,
                module.kernel_size,  # type: ignore[arg-type]
                module.stride,  # type: ignore[arg-type]
                module.padding,  # type: ignore[arg-type]
                module.dilation,  # type: ignore[arg-type]
                bias=module.bias is not None,
                padding_mode=module.padding_mode,
            )
        else:
            continue
        if not name:  # it is the head itself
            vars(head).update(vars(fresh.to(module.weight.device).train(module.training)))
            return
        path, _, leaf = name.rpartition(".")
        head.get_submodule(path).add_module(leaf, fresh.to(module.weight.device).train(module.training))
        return
    raise PartitionError(
        f"the model gives {own} classes, {classes} were asked for, and its last part has no linear layer or "
        f"convolution with {own} outputs to replace; build the model with {classes} classes"
    )


def _grid(places: tuple[int, ...], channels: int, classes: int, budget: int | None) -> int:
    for grid in _GRIDS:
        parameters = (channels * grid ** len(places) + 1) * classes
        if all(side % grid == 0 for side in places) and (budget is None or parameters <= budget):
            return grid
    return 1


def _channels(module: nn.Module) -> int:
    for attribute in ("out_channels", "num_features", "num_channels", "out_features", "embed_dim", "embedding_dim"):
        value = getattr(module, attribute, None)
        if isinstance(value, int):
            return value
    return int(module.normalized_shape[-1]) if isinstance(module, nn.LayerNorm) else -1
