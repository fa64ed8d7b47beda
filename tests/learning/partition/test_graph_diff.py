"""Two recordings of one model are compared."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedlp_edge.learning.partition.graph_diff import compare, leaves_of, relevant
from fedlp_edge.learning.partition.recorder import Recording, record


class ByMode(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.relu() if self.training else x.tanh()


class BySize(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        _ = x.exp()  # nothing depends on it
        return x * len(x)


def recorded(model: nn.Module, *, batch: int = 2, training: bool = False) -> Recording:
    return record(model, torch.ones(batch, 3), training=training, whole=())


def test_equal_calls_are_paired() -> None:
    model = nn.Linear(3, 2)
    result = compare(recorded(model), recorded(model, training=True))
    assert [node.name for node, _ in result.pairs] == ["x", "model_weight", "model_bias", "linear"]
    assert all(node.name == twin.name for node, twin in result.pairs)
    assert (result.differing, result.blamed) == ((), frozenset())


def test_calls_that_differ_in_a_constant_are_found() -> None:
    result = compare(recorded(BySize()), recorded(BySize(), batch=3))
    assert [(node.args[1], twin.args[1]) for node, twin in result.differing] == [(2, 3)]
    assert result.blamed == frozenset()


def test_module_that_computes_something_else_is_blamed() -> None:
    model = nn.Sequential(nn.Linear(3, 3), ByMode())
    result = compare(recorded(model), recorded(model, training=True))
    assert result.pairs == ()
    assert result.blamed == {"model.1"}


def test_calls_that_nothing_depends_on_are_irrelevant() -> None:
    recording = recorded(BySize())
    assert any(node.target in ("exp", torch.Tensor.exp) for node in recording.graph.nodes)
    assert [node.op for node in relevant(recording)] == ["placeholder", recording.output.op]


def test_leaves_are_in_order_with_a_mark_for_each_container() -> None:
    assert list(leaves_of((1, {"a": [2]}, slice(0, None)))) == [
        *(("sequence", 3), 1, ("mapping", ("a",)), ("sequence", 1), 2),
        *(("slice",), ("sequence", 3), 0, None, None),
    ]
