"""Values that a model is filled with."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fedlp_edge.errors import ModelError
from fedlp_edge.learning.model.state_values import TensorState, load_values, values_of


def test_named_tensors_are_copied_and_others_stay() -> None:
    model = nn.Linear(1, 2)
    bias = model.bias.detach().clone()
    load_values(model, TensorState({"weight": torch.tensor([[1.0], [2.0]]), "bias": torch.zeros(2)}), ["weight"])
    assert model.weight.tolist() == [[1.0], [2.0]]
    assert torch.equal(model.bias, bias)


@pytest.mark.parametrize("tensors", [{}, {"weight": torch.zeros(1, 2)}])
def test_a_tensor_that_is_missing_or_has_another_shape_is_refused(tensors: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ModelError, match=r"no tensor weight of \[2, 1\]"):
        load_values(nn.Linear(1, 2), TensorState(tensors), ["weight"])


def test_values_are_float32_and_the_models_own_memory_where_they_can_be() -> None:
    single, half = nn.Linear(1, 1), nn.Linear(1, 1).to(torch.float16)
    assert values_of(single, ["weight"])["weight"].data_ptr() == single.weight.data_ptr()
    assert values_of(half, ["weight"])["weight"].dtype == torch.float32
