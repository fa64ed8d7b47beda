"""The ``[training.augment]`` table, whose numbers all have bounds."""

from __future__ import annotations

import msgspec
import pytest

from fedlp_edge.core.augment_settings import (
    MAX_TRANSFORMS,
    AugmentSettings,
    GaussianBlur,
    RandomHorizontalFlip,
    RandomResizedCrop,
)


def read(**table: object) -> AugmentSettings:
    """Settings as a file or a message has them."""
    return msgspec.convert(table, AugmentSettings)


def test_transforms_are_read_by_their_names_in_order() -> None:
    settings = read(transforms=[{"name": "RandomResizedCrop"}, {"name": "RandomHorizontalFlip", "p": 0.25}])
    assert settings.transforms == (RandomResizedCrop(scale=(0.08, 1.0)), RandomHorizontalFlip(0.25))
    assert msgspec.json.decode(msgspec.json.encode(settings), type=AugmentSettings) == settings


@pytest.mark.parametrize(
    ("table", "varied"),
    [
        ({}, False),
        ({"transforms": [{"name": "RandomInvert"}]}, False),
        ({"jitter": 0.1}, True),
        ({"scaling": 0.1}, True),
        ({"crop": 0.9}, True),
        ({"time_shift": 1}, True),
    ],
)
def test_windows_are_varied_where_one_of_their_keys_says_so(table: dict[str, object], varied: bool) -> None:
    assert read(**table).of_windows is varied


@pytest.mark.parametrize(
    ("transform", "words"),
    [
        ({"name": "RandomFlip"}, "Invalid value 'RandomFlip'"),
        ({"name": "RandomHorizontalFlip", "p": 2}, "<= 1"),
        ({"name": "RandomHorizontalFlip", "speed": 1}, "unknown field `speed`"),
        ({"name": "GaussianBlur", "kernel_size": 4}, "kernel_size must be odd, not 4"),
        ({"name": "GaussianBlur", "kernel_size": 3, "sigma": [2, 1]}, "sigma is the smallest and the largest value"),
        ({"name": "RandomResizedCrop", "scale": [0.5, 2]}, "scale is the smallest and the largest share"),
        ({"name": "RandomAffine", "degrees": 5, "scale": [2, 1]}, "scale is the smallest and the largest factor"),
        ({"name": "RandomErasing", "ratio": [3, 1]}, "scale and ratio each are the smallest and the largest value"),
    ],
)
def test_value_out_of_its_bounds_is_refused(transform: dict[str, object], words: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=words):
        read(transforms=[transform])


def test_number_of_transforms_has_a_bound() -> None:
    with pytest.raises(msgspec.ValidationError):
        read(transforms=[{"name": "RandomInvert"}] * (MAX_TRANSFORMS + 1))
    assert GaussianBlur(kernel_size=63).sigma == (0.1, 2.0)
