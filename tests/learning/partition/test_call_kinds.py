"""Calls of a forward pass become nodes of a graph."""

from __future__ import annotations

import operator

import pytest
import torch
from torch import nn

from fedlp_edge.learning.partition.call_kinds import (
    as_node,
    depends_on_values,
    is_basic,
    is_in_place,
    is_random,
    set_item,
)


def test_calls_that_depend_on_values_are_known() -> None:
    x = torch.zeros(2)
    assert depends_on_values("item", (x,))
    assert depends_on_values("where", (x > 0,))
    assert not depends_on_values("where", (x > 0, x, x))
    assert depends_on_values("__getitem__", (x, x > 0))
    assert not depends_on_values("__getitem__", (x, 0))


def test_calls_in_place_and_random_calls_are_known_by_name() -> None:
    assert [is_in_place(name) for name in ("add_", "__iadd__", "add", "__add__")] == [True, True, False, False]
    assert [is_random(name) for name in ("dropout", "relu")] == [True, False]


def test_calls_are_functions_or_methods() -> None:
    x = torch.zeros(2)
    assert as_node(torch.relu, "relu", (x,)) == ("call_function", torch.relu, (x,))
    assert as_node(torch.Tensor.view, "view", (x, 2)) == ("call_method", "view", (x, 2))
    assert as_node(torch.Tensor.__getitem__, "__getitem__", (x, 0)) == ("call_function", operator.getitem, (x, 0))
    assert as_node(torch.Tensor.T.__get__, "__get__", (x,)) == ("call_function", getattr, (x, "T"))  # type: ignore[attr-defined]


def test_set_item_returns_the_changed_tensor() -> None:
    x = torch.zeros(2)
    assert set_item(x, 1, 5.0) is x
    assert x.tolist() == [0.0, 5.0]


@pytest.mark.parametrize(
    ("module", "basic"), [(nn.Linear(1, 1), True), (nn.ReLU(), True), (nn.Sequential(nn.ReLU()), False)]
)
def test_layers_of_torch_are_basic_and_containers_are_not(module: nn.Module, basic: bool) -> None:
    assert is_basic(module) is basic
