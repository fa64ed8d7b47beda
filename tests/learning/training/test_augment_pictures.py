from __future__ import annotations

import sys
from typing import get_args

import msgspec
import pytest
import torch

from fedlp_edge.core.augment_settings import (
    AugmentSettings,
    ColorJitter,
    PictureTransform,
    RandomCrop,
    RandomHorizontalFlip,
    RandomVerticalFlip,
)
from fedlp_edge.errors import DataError, ModelError
from fedlp_edge.learning.training.augment import import_transforms
from fedlp_edge.learning.training.augment_pictures import PictureAugmentation

NEEDED = {
    "RandomRotation": {"degrees": 20},
    "RandomAffine": {"degrees": 5, "translate": [0.1, 0.1], "scale": [0.9, 1.1], "shear": 5},
    "GaussianBlur": {"kernel_size": 3},
    "RandomSolarize": {"threshold": 0.5},
    "RandomPosterize": {"bits": 3},
    "RandomAdjustSharpness": {"sharpness_factor": 2},
    "ColorJitter": {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.1},
}


def augmentation(*transforms: PictureTransform, shape: tuple[int, ...] = (1, 2, 2)) -> PictureAugmentation:
    return PictureAugmentation(transforms, shape, (0.5,), (0.25,))


def normalised(pictures: torch.Tensor) -> torch.Tensor:
    return (pictures - 0.5) / 0.25


@pytest.mark.parametrize("name", [kind.__name__ for kind in get_args(PictureTransform)])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_transform_keeps_the_shape_of_a_picture(name: str, channels: int) -> None:
    transform = msgspec.convert({"name": name, **NEEDED.get(name, {})}, PictureTransform)
    x = normalised(torch.rand(6, channels, 12, 10, generator=torch.Generator().manual_seed(1)))
    augment = augmentation(transform, shape=(channels, 12, 10))
    varied = augment(x, seed=5)
    assert varied.shape == x.shape
    assert varied.isfinite().all()
    assert varied.equal(augment(x, seed=5))


def test_flips_turn_every_picture_round_and_keep_its_normalisation() -> None:
    x = normalised(torch.tensor([[[[0.0, 0.25], [0.5, 1.0]]]]))
    varied = augmentation(RandomHorizontalFlip(p=1.0), RandomVerticalFlip(p=1.0))(x, seed=0)
    assert varied.tolist() == normalised(torch.tensor([[[[1.0, 0.5], [0.25, 0.0]]]])).tolist()


def test_pictures_of_a_batch_are_varied_one_by_one() -> None:
    x = normalised(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])).repeat(32, 1, 1, 1)
    varied = augmentation(RandomHorizontalFlip())(x, seed=0)
    assert 8 < sum(picture.equal(x[0]) for picture in varied) < 24


def test_padding_of_a_crop_is_black() -> None:
    x = normalised(torch.ones(16, 1, 2, 2))
    varied = augmentation(RandomCrop(padding=2))(x, seed=0)
    assert set(varied.unique().tolist()) == {-2.0, 2.0}


def test_other_random_numbers_stay_as_they_were() -> None:
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    augmentation(RandomHorizontalFlip())(normalised(torch.zeros(4, 1, 2, 2)), seed=0)
    assert torch.rand(2).equal(wanted)


def test_memory_layout_stays() -> None:
    x = normalised(torch.rand(4, 3, 5, 6)).contiguous(memory_format=torch.channels_last)
    varied = augmentation(RandomHorizontalFlip(), shape=(3, 5, 6))(x, seed=0)
    assert varied.is_contiguous(memory_format=torch.channels_last)


def test_colours_need_values_from_0_to_1() -> None:
    loud = torch.full((1, 1, 2, 2), 255.0)
    with pytest.raises(DataError, match=r"values from 0 to 1, and these go from 64\.25 to 64\.25"):
        augmentation(ColorJitter(brightness=0.1))(loud, seed=0)
    augmentation(RandomHorizontalFlip())(loud, seed=0)


def test_transform_that_cannot_take_a_picture_is_named() -> None:
    with pytest.raises(DataError, match=r"\[training.augment\] RandomCrop cannot take pictures of shape \[1, 2, 2\]"):
        augmentation(RandomCrop(padding=8, padding_mode="reflect"))(normalised(torch.zeros(1, 1, 2, 2)), seed=0)


def test_device_without_torchvision_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.transforms", None)
    import_transforms(AugmentSettings(jitter=0.1))
    with pytest.raises(ModelError, match=r'transforms needs torchvision .*pip install "fedlp-edge\[vision\]"'):
        import_transforms(AugmentSettings(transforms=(RandomHorizontalFlip(),)))
