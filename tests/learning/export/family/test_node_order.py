"""Nodes come before those that take their results, in branches as well."""

from __future__ import annotations

from onnx import TensorProto, helper

from fedlp_edge.learning.export.family.node_order import sort_nodes


def test_nodes_come_after_what_they_take_and_otherwise_stay() -> None:
    branch = helper.make_graph(
        [helper.make_node("Add", ["c", "d"], ["e"]), helper.make_node("Neg", ["b"], ["d"])],
        "branch",
        [],
        [helper.make_tensor_value_info("e", TensorProto.FLOAT, [1])],
    )
    nodes = [
        helper.make_node("If", ["when"], ["y"], then_branch=branch, else_branch=branch),
        helper.make_node("Abs", ["x"], ["a"]),
        helper.make_node("Neg", ["a"], ["c"]),
        helper.make_node("Abs", ["a"], ["b"]),
        helper.make_node("Not", ["never"], ["when"]),
    ]
    graph = helper.make_graph(nodes, "graph", [], [])
    sort_nodes(graph)
    assert [list(node.output) for node in graph.node] == [["a"], ["c"], ["b"], ["when"], ["y"]]
    for attribute in graph.node[-1].attribute:
        assert [list(node.output) for node in attribute.g.node] == [["d"], ["e"]]
