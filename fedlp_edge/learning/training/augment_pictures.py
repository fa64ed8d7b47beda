"""Varies pictures with ``torchvision.transforms.v2``, each picture on its own.

torchvision is imported only where a fleet uses it: it takes seconds and about 170 MB.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import torch
from torch import Tensor

from fedlp_edge.core.augment_settings import (
    PictureTransform,
    RandomAffine,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomPerspective,
    RandomResizedCrop,
    RandomRotation,
    RandomVerticalFlip,
)
from fedlp_edge.errors import DataError, ModelError
from fedlp_edge.learning.rng import seeded
from fedlp_edge.system.loading.install_command import install_command

_OF_PLACES = (
    RandomHorizontalFlip,
    RandomVerticalFlip,
    RandomCrop,
    RandomResizedCrop,
    RandomRotation,
    RandomAffine,
    RandomPerspective,
    RandomErasing,
)
"""Transforms that move pixels about, whatever range their values have."""
_SIZED = (RandomCrop, RandomResizedCrop)
_ROUNDING = 1e-3
"""How far a value may lie outside of 0 to 1."""


class PictureAugmentation:
    """Transforms of pictures, in order.

    Args:
        transforms: Settings of the transforms.
        shape: Shape of one picture, [C, H, W].
        mean: Mean by which the pictures are normalised, per channel or one for all channels.
        std: Standard deviation by which they are normalised, per channel or one for all channels.

    Raises:
        ModelError: torchvision is not installed.
    """

    def __init__(
        self,
        transforms: Sequence[PictureTransform],
        shape: tuple[int, ...],
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self._transforms = [(type(t).__name__, make_transform(t, shape[-2:])) for t in transforms]
        self._changes_values = not all(isinstance(transform, _OF_PLACES) for transform in transforms)
        self._mean = torch.tensor(mean).reshape(-1, 1, 1)
        self._std = torch.tensor(std).reshape(-1, 1, 1)

    def __call__(self, x: Tensor, seed: int) -> Tensor:
        """Returns varied pictures, as normalised as the given ones.

        Args:
            x: Normalised pictures, float32 [B, C, H, W].
            seed: Seed of everything that is drawn.

        Raises:
            DataError: The values of the pictures do not go from 0 to 1, or a transform cannot take such pictures.
        """
        # On the CPU whatever trains: transforms are many small operations, and the same ones then give the same bits.
        pictures = (x.cpu() * self._std).add_(self._mean)
        if self._changes_values:
            pictures = _from_0_to_1(pictures)
        with seeded(seed):
            for picture in pictures:
                picture.copy_(self._varied(picture))
        return pictures.sub_(self._mean).div_(self._std).to(x.device)

    def _varied(self, picture: Tensor) -> Tensor:
        for name, transform in self._transforms:
            try:
                picture = transform(picture)
            except (RuntimeError, TypeError, ValueError) as error:
                raise DataError(
                    f"[training.augment] {name} cannot take pictures of shape {list(picture.shape)}: "
                    f"{' '.join(str(error).split())[:200]}"
                ) from None
        return picture


def make_transform(transform: PictureTransform, size: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    """Makes the transform of torchvision that has the same name.

    Args:
        transform: Its arguments.
        size: Height and width of the pictures.

    Raises:
        ModelError: torchvision is not installed.
    """
    try:
        from torchvision.transforms import v2  # noqa: PLC0415 - an extra, and slow to import
    except ModuleNotFoundError as error:
        raise ModelError(
            f"[training.augment] transforms needs torchvision ({error}); {install_command('vision')}"
        ) from error
    arguments: dict[str, Any] = msgspec.structs.asdict(transform)
    if isinstance(transform, _SIZED):
        arguments["size"] = size
    made: Callable[[Tensor], Tensor] = getattr(v2, type(transform).__name__)(**arguments)
    return made


def _from_0_to_1(pictures: Tensor) -> Tensor:
    low, high = (float(value) for value in torch.aminmax(pictures))
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise DataError(
            "[training.augment] transforms of colours are for pictures with bytes or with values from 0 to 1, and "
            f"these go from {low:g} to {high:g}"
        )
    return pictures.clamp_(0, 1)
