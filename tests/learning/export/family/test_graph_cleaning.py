"""A graph is left with what it needs."""

from __future__ import annotations

from fedlp_edge.learning.export.family.graph_cleaning import cleaned, without_dead_tensors
from tests.learning.export.family.graphs import two_exits


def test_tensors_that_nothing_takes_are_left_out() -> None:
    assert [tensor.name for tensor in without_dead_tensors(two_exits()).graph.initializer] == ["two", "one"]
    model = cleaned(two_exits())
    assert "dead" not in [tensor.name for tensor in model.graph.initializer]
    assert [output.name for output in model.graph.output] == ["logits_1", "logits_2"]
