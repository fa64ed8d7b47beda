"""Modules are copied with what they hold."""

from __future__ import annotations

import torch
from torch import nn

from fedlp_edge.learning.model.module_copies import copied, tensors_in, without_sparse_gradients


def test_copy_holds_the_values_of_computed_tensors_and_shares_no_parameter() -> None:
    module = nn.Linear(1, 1, bias=False)
    module.kept = [module.weight * 2]  # type: ignore[assignment]
    copy = copied(module, [module])
    assert copy.weight is not module.weight
    assert copy.weight.equal(module.weight)
    (kept,) = tensors_in(copy.kept)
    assert kept.is_leaf
    assert kept.tolist() == (module.weight * 2).tolist()


def test_memo_stands_for_parts() -> None:
    module, other = nn.Linear(1, 1), nn.Parameter(torch.zeros(1, 1))
    assert copied(module, [module], {id(module.weight): other}).weight is other


def test_embeddings_give_dense_gradients() -> None:
    model = nn.Sequential(nn.Embedding(3, 2, sparse=True))
    without_sparse_gradients([model])
    model(torch.tensor([1])).sum().backward()
    gradient = model[0].weight.grad
    assert isinstance(gradient, torch.Tensor)
    assert gradient.tolist() == [[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]


def test_tensors_are_found_in_nests() -> None:
    a, b = torch.zeros(1), torch.ones(1)
    found = list(tensors_in({"x": [a, 3], "y": ({"z": b},)}))
    assert [id(tensor) for tensor in found] == [id(a), id(b)]
