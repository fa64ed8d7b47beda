"""One graph with all exits is cut into the graphs of its depths."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from fedlp_edge.learning.export.family.multi_exit_graph import cut_exit, exit_of, exits_of
from fedlp_edge.learning.model.layered import LayeredModel
from tests.learning.export.family.graphs import answer, two_exits


def test_each_exit_has_what_it_needs_and_no_more() -> None:
    first, second = (cut_exit(two_exits(), depth, ("logits",)) for depth in (1, 2))
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    np.testing.assert_array_equal(answer(first, x), 2 * x)
    np.testing.assert_array_equal(answer(second, x), 2 * x + 1)
    assert [tensor.name for tensor in first.graph.initializer] == ["two"]
    assert [tensor.name for tensor in second.graph.initializer] == ["two", "one"]


def test_some_exits_of_a_model_share_its_parts() -> None:
    layers = [(f"l{number}", nn.Linear(2, 2)) for number in (1, 2, 3)]
    heads = [(f"h{number}", nn.Linear(2, 2)) for number in (1, 2, 3)]
    model = LayeredModel(layers, heads, torch.zeros(1, 2), classes=2)
    some = exits_of(model, (3, 1))
    assert some.exit_depths == (1, 3)
    assert some.get_submodule("L2") is layers[1][1]
    x = torch.ones(4, 2)
    torch.testing.assert_close(exit_of(some, 1)(x), model(x, depth=1))
    torch.testing.assert_close(some(x), model(x))


def test_models_that_answer_with_the_mean_of_their_exits_have_all_of_them() -> None:
    layers = [(f"l{number}", nn.Linear(2, 2)) for number in (1, 2, 3)]
    heads = [(f"h{number}", nn.Linear(2, 2)) for number in (1, 2, 3)]
    model = LayeredModel(layers, heads, torch.zeros(1, 2), classes=2, exit_mode="all")
    x = torch.ones(4, 2)
    first, second, third = model.exits(x)
    some = exits_of(model, (1, 3), model.answer)
    assert some.exit_depths == (1, 2, 3)
    torch.testing.assert_close(some(x), (first + second + third) / 3)
    torch.testing.assert_close(exit_of(some, 2)(x), (first + second) / 2)
    torch.testing.assert_close(exit_of(some, 1)(x), first)
    torch.testing.assert_close(some.answers(x), (first, (first + second) / 2, (first + second + third) / 3))
    torch.testing.assert_close(some.exits(x), (first, second, third))
