from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.dataset import load_data


class Squares:
    """Samples that are their own position, of a class that says whether it is odd."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        self.read.append(index)
        return np.full((1, 2, 2), index, np.uint8), index % 2


class Labelled(Squares):
    """Tells its labels without reading its samples."""

    targets = tuple(range(12))


class Ragged(Squares):
    """Samples of different shapes."""

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return np.zeros((1, 2, 2 + index // 5), np.uint8), 0


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    made = ModuleType("map_datasets_for_test")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


def test_a_large_data_set_is_read_when_it_is_needed(module: ModuleType) -> None:
    samples = Labelled()
    vars(module)["load"] = lambda split: samples
    data = load_data("map_datasets_for_test:load#cache=0&limit=5&holdout=0")
    assert samples.read == [0]
    assert not data.in_memory
    assert data.stored()[:, 0, 0, 0].tolist() == data.y.tolist()
    assert samples.read[1:] == data.y.tolist()


def test_a_small_one_is_read_at_once_with_the_same_result(module: ModuleType) -> None:
    vars(module)["load"] = lambda split: Squares()
    small, large = load_data("map_datasets_for_test:load"), load_data("map_datasets_for_test:load#cache=0")
    assert small.in_memory
    assert large.stored().equal(small.stored())
    assert large.y.equal(small.y)


def test_other_shapes_are_said_when_they_come(module: ModuleType) -> None:
    vars(module)["load"] = lambda split: Ragged()
    data = load_data("map_datasets_for_test:load#cache=0&holdout=0")
    with pytest.raises(DataError, match=r"samples of different shapes, \[1, 2, 2\] and, for sample 5, \[1, 2, 3\]"):
        data.stored()
