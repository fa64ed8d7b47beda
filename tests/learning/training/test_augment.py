"""Samples of a batch are varied as a function of seed, epoch and batch alone."""

from __future__ import annotations

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlp_edge.core.augment_settings import AugmentSettings, RandomHorizontalFlip
from fedlp_edge.errors import ModelError
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.training.augment import import_transforms, make_augment

WINDOWS = torch.arange(12.0).reshape(2, 1, 6)


def data(x: torch.Tensor) -> Dataset:
    return Dataset.of_tensor(x, torch.zeros(len(x), dtype=torch.int64), ("a",), 1.0, (0.0,), (1.0,))


def test_nothing_is_varied_by_default() -> None:
    assert make_augment(AugmentSettings(), data(WINDOWS)) is None


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.integers(0, 5), st.integers(0, 5))
def test_same_place_in_a_round_gives_the_same_samples(seed: int, epoch: int, batch: int) -> None:
    augment = make_augment(AugmentSettings(jitter=0.5), data(WINDOWS))
    assert augment is not None
    before = WINDOWS.clone()
    varied = augment(WINDOWS, seed=seed, epoch=epoch, batch=batch)
    torch.manual_seed(epoch)  # whatever else draws random numbers
    assert torch.equal(varied, augment(WINDOWS, seed=seed, epoch=epoch, batch=batch))
    assert not torch.equal(varied, augment(WINDOWS, seed=seed, epoch=epoch, batch=batch + 1))
    assert varied.shape == WINDOWS.shape
    assert torch.equal(WINDOWS, before)


def test_pictures_are_turned_and_then_disturbed() -> None:
    pictures = torch.tensor([[[[0.0, 1.0], [0.25, 0.5]]]])
    flip = AugmentSettings((RandomHorizontalFlip(p=1.0),))
    augment = make_augment(flip, data(pictures))
    assert augment is not None
    assert augment(pictures, seed=1, epoch=0, batch=0).tolist() == [[[[1.0, 0.0], [0.5, 0.25]]]]


def test_missing_torchvision_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.transforms", None)
    monkeypatch.setitem(sys.modules, "torchvision.transforms.v2", None)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ModelError, match="torchvision"):
        import_transforms(AugmentSettings((RandomHorizontalFlip(),)))
    import_transforms(AugmentSettings(jitter=0.5))  # windows need no torchvision
