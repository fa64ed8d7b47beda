"""Varies the samples of a batch, as ``[training.augment]`` says, before they are trained.

What is drawn is a function of the seed of the round, the epoch and the number of the batch alone, and is drawn on the
CPU from generators of its own: the same seed gives the same samples, whatever else draws random numbers, and however
the batch is cut into micro-batches afterwards.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from fedlp_edge.core.augment_settings import AugmentSettings
from fedlp_edge.core.seeds import derive
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.training.augment_pictures import PictureAugmentation, make_transform
from fedlp_edge.learning.training.augment_windows import augment_windows


class Augment(Protocol):
    """A function that varies the samples of a batch."""

    def __call__(self, x: Tensor, *, seed: int, epoch: int, batch: int) -> Tensor:
        """Returns the varied samples, with shape, device and memory layout of the given ones, which stay as they are.

        Args:
            x: Normalised samples, float32 [B, ...].
            seed: Seed of the round.
            epoch: Number of the epoch, from 0.
            batch: Number of the batch in the epoch, from 0.
        """


class _AugmentBoth:
    """Pictures have transforms, windows and tables have the rest; the settings have only what goes with the input."""

    def __init__(self, settings: AugmentSettings, pictures: PictureAugmentation | None) -> None:
        self._settings = settings
        self._pictures = pictures

    def __call__(self, x: Tensor, *, seed: int, epoch: int, batch: int) -> Tensor:
        drawn = derive(seed, epoch, batch, "augment")
        if self._pictures is not None:
            x = self._pictures(x, drawn)
        if self._settings.of_windows:
            x = augment_windows(x, self._settings, torch.Generator().manual_seed(drawn))
        return x


def make_augment(settings: AugmentSettings, data: Dataset) -> Augment | None:
    """Returns the function that varies batches of some data; None if nothing is varied.

    Args:
        settings: What is varied.
        data: Samples of the device, whose normalisation transforms of pictures have to undo.

    Raises:
        ModelError: The transforms need torchvision, which is not installed.
    """
    if settings == AugmentSettings():
        return None
    if not settings.transforms:
        return _AugmentBoth(settings, None)
    return _AugmentBoth(settings, PictureAugmentation(settings.transforms, data.input_shape, data.mean, data.std))


def import_transforms(settings: AugmentSettings) -> None:
    """Imports what the transforms of pictures need, so that it is not taken from the memory of a train step.

    Raises:
        ModelError: The transforms need torchvision, which is not installed.
    """
    for transform in settings.transforms:
        make_transform(transform, (1, 1))
