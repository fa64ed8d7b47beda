"""Exit heads: small classifiers that make every depth a whole model.

A head must fit whatever the layers before it give, stay small next to them, and export to ONNX with a
dynamic batch. The rules are few, and the same on every machine:

=========================  ==========================================================================
feature                    head
=========================  ==========================================================================
[B, C]                     linear
[B, C, H, W]               average over a g x g grid, flatten, linear; g is the largest of 4, 3, 2, 1 that
                           divides H and W and keeps the depth within its budget of parameters
[B, H, W, C]               the same, after moving the channels to the front
[B, C, L]                  the same along one dimension
[B, T, C]                  mean over the tokens, linear
[B, C, ...]                mean over everything but the channels, linear
=========================  ==========================================================================
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from fedlp_edge.errors import PartitionError

_GRIDS = (4, 3, 2, 1)
_FIRST = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm)
_LAST = (nn.Linear, nn.LayerNorm, nn.MultiheadAttention, nn.Embedding)


class Mean(nn.Module):
    """[B, C, ...] or [B, ..., C] to [B, C]: the mean over tokens or places.

    Args:
        channels_first: which of the two it is given.
    """

    def __init__(self, channels_first: bool) -> None:
        super().__init__()
        self._channels_first = channels_first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Averages all dimensions but the batch and the channels."""
        return x.flatten(2).mean(dim=2) if self._channels_first else x.flatten(1, -2).mean(dim=1)


class Feature(nn.Module):
    """What a layer passes on to its feature alone, the samples in the first dimension.

    Args:
        batch: the dimension that the feature has them in.
    """

    def __init__(self, batch: int) -> None:
        super().__init__()
        self._batch = batch

    def forward(self, passed: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
        """The tensor, or the first of several; the others are masks and the like."""
        return feature_of(passed).movedim(self._batch, 0)


class ChannelsToFront(nn.Module):
    """[B, ..., C] to [B, C, ...]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Moves the last dimension behind the first."""
        return x.movedim(-1, 1)


def feature_of(passed: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
    """The feature among what a layer passes on."""
    return passed[0] if isinstance(passed, tuple) else passed


def exit_head(feature: tuple[int, ...], classes: int, *, channels_first: bool, budget: int | None = None) -> nn.Module:
    """A freshly initialised head for one feature shape.

    Args:
        feature: shape of one sample's feature, without the batch.
        classes: number of logits.
        channels_first: where the channels are, if there is more than one dimension.
        budget: most parameters that the head should have. A head with the coarsest grid is given even where
            it is over the budget.

    Raises:
        PartitionError: the feature is a scalar per sample.
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


def has_channels_first(layer: nn.Module, feature: tuple[int, ...]) -> bool:
    """Guesses where a layer's feature keeps its channels.

    The last submodule that says how many channels it gives decides, if one end of the shape and no other
    dimension has that size; otherwise its kind does: convolutions and batch norms put channels first, linear
    layers, layer norms and attention last. Without any such module: first for images, last for sequences.

    Args:
        layer: the code that gives the feature.
        feature: shape of one sample's feature, without the batch.
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
    """Puts a fresh last linear layer or convolution in place of the one that gives ``own`` logits.

    Args:
        head: changed in place; shares nothing with the user's model.
        classes: number of logits wanted.
        own: number of logits that it gives.

    Raises:
        PartitionError: no such layer is found.
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
