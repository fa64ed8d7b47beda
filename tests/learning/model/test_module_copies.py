"""Modules are copied with what they hold."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

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


class Scaled(nn.Module):
    """Holds functions that refer to it; each computes twice its weight when it gets 2."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.seen = nn.Parameter(torch.ones(1)), []
        plain, times = (lambda x: self.weight * x), self.times
        self.functions: dict[str, Callable[[Tensor], Tensor]] = {
            "closure": plain,
            "closure of a closure": lambda x: 1 * plain(x),
            "closure of a method": lambda x: 1 * times(x),
            "default": lambda x, of=self: of.weight * x,  # type: ignore[misc]
            "method": self.times,
            "partial": partial(lambda given, x: self.weight * given * x, 1),
            "recursive": self.recursive(),
        }
        self.register_forward_hook(lambda module, given, result: self.seen.append(result))

    def times(self, x: Tensor) -> Tensor:
        return self.weight * x

    def recursive(self) -> Callable[[Tensor], Tensor]:
        def repeated(x: Tensor, times: int = 1) -> Tensor:
            return repeated(x, times - 1) if times else self.weight * x

        return repeated

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize("kind", list(Scaled().functions))
def test_functions_in_a_copy_refer_to_the_copy(kind: str) -> None:
    module = Scaled()
    copy = copied(nn.Sequential(module), [module])[0]
    assert isinstance(copy, Scaled)
    copy.weight.data.fill_(3.0)
    x = torch.full((1,), 2.0)
    assert (module.functions[kind](x).item(), copy.functions[kind](x).item()) == (2.0, 6.0)


def test_hooks_of_a_copy_write_into_the_copy() -> None:
    module = Scaled()
    copy = copied(module, [module])
    copy(torch.zeros(1))
    assert (len(module.seen), len(copy.seen)) == (0, 1)


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
