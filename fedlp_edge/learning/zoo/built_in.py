"""This module defines the models that FedLP Edge contains and that do not need torchvision.

- ``fedlp-cnn``: the network of the experiments in arXiv 2303.06360, with equal layers and heads.
- ``fedlp-cnn-narrow``: ``fedlp-cnn`` with a quarter of the channels, for experiments on a CPU.
- ``small-cnn``: a small network for images of 4x4 pixels and more, and for windows [channels, length], fast enough for
  a fleet on one machine.
- ``mlp``: a network with three hidden layers, for samples of any fixed shape.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

import torch
from torch import nn

from fedlp_edge.core.blueprint import HeadMode
from fedlp_edge.errors import ModelError
from fedlp_edge.learning.model.heads import exit_head
from fedlp_edge.learning.model.layered import LayeredModel
from fedlp_edge.learning.partition.partition import partition
from fedlp_edge.learning.rng import seeded

Builder = Callable[[tuple[int, ...], int, HeadMode, int], LayeredModel]
"""Function from input shape, number of classes, head mode and seed to a layered model."""


def fedlp_cnn(input_shape: tuple[int, ...], classes: int, head_mode: HeadMode, seed: int) -> LayeredModel:
    """Builds the CNN of arXiv 2303.06360: six convolutions in five depths, and heads of two linear layers.

    The convolutions have 32-32-64-64-128-128 channels. Each is followed by ReLU and then batch normalisation. After
    every second one comes a pool, which stands at the start of the next layer, because each head has a pool of its own.
    As in the paper's published code (github.com/Zhuzzq/FedLP), no head has an activation between its linear layers.
    For inputs of 3x32x32 the heads have 8192, 4096, 4096, 2048 and 2048 input features.

    Args:
        input_shape: Channels, height and width of one image.
        classes: Number of classes.
        head_mode: Whether heads are shared or personal.
        seed: Seed of the initial weights.

    Raises:
        ModelError: The input is not an image, or is too small for three pools.
    """
    return _paper_cnn("fedlp-cnn", (32, 32, 64, 64, 128, 128), 128, input_shape, classes, head_mode, seed)


def fedlp_cnn_narrow(input_shape: tuple[int, ...], classes: int, head_mode: HeadMode, seed: int) -> LayeredModel:
    """Builds ``fedlp_cnn`` with 8-8-16-16-32-32 channels and 64 hidden units in every head.

    For inputs of 1x28x28 it has 37,410 parameters and 1.9 million MACs, where ``fedlp-cnn`` has 436,202 and 29.3
    million.

    Args:
        input_shape: Channels, height and width of one image.
        classes: Number of classes.
        head_mode: Whether heads are shared or personal.
        seed: Seed of the initial weights.

    Raises:
        ModelError: The input is not an image, or is too small for three pools.
    """
    return _paper_cnn("fedlp-cnn-narrow", (8, 8, 16, 16, 32, 32), 64, input_shape, classes, head_mode, seed)


def _paper_cnn(
    name: str,
    filters: tuple[int, ...],
    hidden: int,
    input_shape: tuple[int, ...],
    classes: int,
    head_mode: HeadMode,
    seed: int,
) -> LayeredModel:
    channels, height, width = _image(name, input_shape, pools=3)
    widths = (channels, *filters)

    def convolution(number: int) -> list[tuple[str, nn.Module]]:
        given, wanted = widths[number - 1], widths[number]
        return [
            (f"conv{number}", nn.Conv2d(given, wanted, kernel_size=3, padding=1)),
            (f"relu{number}", nn.ReLU()),
            (f"bn{number}", nn.BatchNorm2d(wanted)),
        ]

    def pool(number: int) -> list[tuple[str, nn.Module]]:
        return [(f"pool{number}", nn.MaxPool2d(2))]

    def head(last: int, halvings: int) -> nn.Module:
        """Returns the head after convolution ``last``; ``halvings`` counts all pools before its linear layers."""
        places = (height >> halvings) * (width >> halvings)
        return _sequence(
            [
                ("pool", nn.MaxPool2d(2)),
                ("flatten", nn.Flatten()),
                ("fc1", nn.Linear(widths[last] * places, hidden)),
                ("fc2", nn.Linear(hidden, classes)),
            ]
        )

    with seeded(seed):
        layers = [
            ("conv1-2", _sequence([*convolution(1), *convolution(2)])),
            ("conv3", _sequence([*pool(1), *convolution(3)])),
            ("conv4", _sequence(convolution(4))),
            ("conv5", _sequence([*pool(2), *convolution(5)])),
            ("conv6", _sequence(convolution(6))),
        ]
        exits = [head(2, 1), head(3, 2), head(4, 2), head(5, 3), head(6, 3)]
    return LayeredModel(
        layers,
        [(f"fc {depth}", module) for depth, module in enumerate(exits, start=1)],
        torch.zeros(1, *input_shape),
        classes=classes,
        head_mode=head_mode,
    )


def small_cnn(input_shape: tuple[int, ...], classes: int, head_mode: HeadMode, seed: int) -> LayeredModel:
    """Builds a CNN of five depths, each a convolution with batch normalisation and ReLU.

    The convolutions have 16-32-64-64-128 channels. For windows of a time series they are one-dimensional.

    Args:
        input_shape: Channels, height and width of one image, or channels and length of one window.
        classes: Number of classes.
        head_mode: Whether heads are shared or personal.
        seed: Seed of the initial weights.

    Raises:
        ModelError: The input is neither an image nor a window, or is too small for two pools.
        PartitionError: The model cannot be split.
    """
    convolution: type[nn.Module]
    norm: type[nn.Module]
    max_pool: type[nn.Module]
    if len(input_shape) == 2:
        channels, *size = _window("small-cnn", input_shape)
        convolution, norm, max_pool = nn.Conv1d, nn.BatchNorm1d, nn.MaxPool1d
    else:
        channels, *size = _image("small-cnn", input_shape, pools=2)
        convolution, norm, max_pool = nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d
    widths = (channels, 16, 32, 64, 64, 128)

    def stage(number: int, *, pooled: bool) -> nn.Module:
        modules: list[tuple[str, nn.Module]] = [("pool", max_pool(2))] if pooled else []
        given, wanted = widths[number - 1], widths[number]
        modules += [
            ("conv", convolution(given, wanted, kernel_size=3, padding=1, bias=False)),
            ("bn", norm(wanted)),
            ("relu", nn.ReLU()),
        ]
        return _sequence(modules)

    with seeded(seed):
        blocks = [(f"stage{number}", stage(number, pooled=number in (2, 4))) for number in range(1, 6)]
        head = exit_head((widths[-1], *(length // 4 for length in size)), classes, channels_first=True)
    return partition(_sequence([*blocks, ("head", head)]), torch.zeros(1, *input_shape), head_mode=head_mode, seed=seed)


def mlp(input_shape: tuple[int, ...], classes: int, head_mode: HeadMode, seed: int) -> LayeredModel:
    """Builds a multilayer perceptron of three depths, with 256, 128 and 64 hidden units and ReLU.

    Args:
        input_shape: Shape of one sample.
        classes: Number of classes.
        head_mode: Whether heads are shared or personal.
        seed: Seed of the initial weights.

    Raises:
        PartitionError: The model cannot be split.
    """
    widths = (torch.Size(input_shape).numel(), 256, 128, 64)
    with seeded(seed):
        blocks: list[tuple[str, nn.Module]] = [("flatten", nn.Flatten())]
        for number in range(1, 4):
            linear = nn.Linear(widths[number - 1], widths[number])
            blocks.append((f"hidden{number}", _sequence([("fc", linear), ("relu", nn.ReLU())])))
        blocks.append(("head", nn.Linear(widths[-1], classes)))
    return partition(_sequence(blocks), torch.zeros(1, *input_shape), head_mode=head_mode, seed=seed)


BUILT_IN: Mapping[str, Builder] = {
    "fedlp-cnn": fedlp_cnn,
    "fedlp-cnn-narrow": fedlp_cnn_narrow,
    "small-cnn": small_cnn,
    "mlp": mlp,
}


def _image(model: str, input_shape: tuple[int, ...], pools: int) -> tuple[int, int, int]:
    if len(input_shape) != 3:
        raise ModelError(f"{model} takes images [channels, height, width], not {_shape(input_shape)}; try mlp")
    channels, height, width = input_shape
    least = 2**pools
    if min(height, width) < least:
        raise ModelError(
            f"{model} halves its input {pools} times and nothing would be left of {_shape(input_shape)}; "
            f"it needs at least {least}x{least}"
        )
    return channels, height, width


def _window(model: str, input_shape: tuple[int, ...]) -> tuple[int, int]:
    channels, length = input_shape
    if length < 4:
        raise ModelError(f"{model} halves a window twice and nothing would be left of {_shape(input_shape)}; try mlp")
    return channels, length


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _sequence(modules: list[tuple[str, nn.Module]]) -> nn.Sequential:
    return nn.Sequential(OrderedDict(modules))
