"""A layered model gives the logits of every exit, and submodels."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fedlp_edge.learning.model.layered import LayeredModel


def scaled_by(*weights: list[float]) -> nn.Linear:
    layer = nn.Linear(len(weights[0]), len(weights), bias=False)
    layer.weight = nn.Parameter(torch.tensor(weights))
    return layer


@pytest.fixture
def model() -> LayeredModel:
    """Layers multiply by 2 and by 3; the heads give the feature and its negative, the second one tenfold."""
    layers = [("a", scaled_by([2.0])), ("b", scaled_by([3.0]))]
    heads = [("exit", scaled_by([1.0], [-1.0])), ("fc", scaled_by([10.0], [-10.0]))]
    return LayeredModel(layers, heads, torch.zeros(1, 1), classes=2)


X = torch.tensor([[1.0]])


def test_exits_are_computed_at_every_depth(model: LayeredModel) -> None:
    assert model(X).tolist() == [[60.0, -60.0]]
    assert model(X, depth=1).tolist() == [[2.0, -2.0]]
    assert [logits.tolist() for logits in model.exits(X)] == [[[2.0, -2.0]], [[60.0, -60.0]]]
    assert model.activations(X, 2).tolist() == [[6.0]]
    with pytest.raises(ValueError, match=r"^depth 3 is not between 1 and 2$"):
        model(X, depth=3)


def test_tensors_are_named_by_unit(model: LayeredModel) -> None:
    assert [(unit.id, unit.name) for unit in model.units] == [("L1", "a"), ("L2", "b"), ("H1", "exit"), ("H2", "fc")]
    assert list(model.state_dict()) == ["L1.weight", "L2.weight", "H1.weight", "H2.weight"]


def test_submodels_hold_own_copies_of_their_layers_and_heads(model: LayeredModel) -> None:
    shallow = model.submodel(1)
    assert list(shallow.state_dict()) == ["L1.weight", "H1.weight"]
    with torch.no_grad():
        shallow.get_parameter("L1.weight").fill_(5.0)
    assert shallow(X).tolist() == [[5.0, -5.0]]
    assert model(X, depth=1).tolist() == [[2.0, -2.0]]
    assert len(model.submodel(2).exits(X)) == 1
    assert len(model.submodel(2, "all").exits(X)) == 2


def test_model_needs_a_head_for_each_layer() -> None:
    with pytest.raises(ValueError, match=r"^1 layers need as many exit heads, not 0$"):
        LayeredModel([("a", nn.Linear(1, 1))], [], torch.zeros(1, 1), classes=1)


def test_what_modules_pickle_beside_their_tensors_is_no_part_of_the_state() -> None:
    class Versioned(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"version": 3}

    parts = [("a", Versioned(1, 1, bias=False))], [("fc", nn.Linear(1, 2, bias=False))]
    model = LayeredModel(*parts, torch.zeros(1, 1), classes=2)
    assert list(model.state_dict()) == ["L1.weight", "H1.weight"]
    assert list(model.submodel(1).state_dict()) == ["L1.weight", "H1.weight"]
    assert list(nn.ModuleDict({"whole": model}).state_dict()) == ["whole.L1.weight", "whole.H1.weight"]
