"""A graph with two exits stops at the first one that is sure, and computes the second only where it is not."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fedlp_edge.errors import ExportError
from fedlp_edge.learning.export.early_exit import THRESHOLD_PROPERTY, logits_name, with_early_exits


def two_exits() -> onnx.ModelProto:
    """Exit 1 gives the input as it is; exit 2 swaps the two values of its rectified double."""
    swap = numpy_helper.from_array(np.array([[0, 2], [2, 0]], dtype=np.float32), "swap")
    nodes = [
        helper.make_node("Identity", ["input"], [logits_name(1)]),
        helper.make_node("Relu", ["input"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "swap"], [logits_name(2)]),
    ]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2])
        for name in ("input", logits_name(1), logits_name(2))
    ]
    graph = helper.make_graph(nodes, "two_exits", values[:1], values[1:], initializer=[swap])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def answer(model: onnx.ModelProto, *values: float) -> tuple[list[float], int]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    logits, depth = session.run(["logits", "exit"], {"input": np.array([values], dtype=np.float32)})
    return logits[0].tolist(), int(depth[0])


@pytest.mark.parametrize(
    ("threshold", "values", "logits", "depth"),
    [
        (0.9, (0.0, 3.0), [0.0, 3.0], 1),  # softmax 0.95: sure
        (0.96, (0.0, 3.0), [6.0, 0.0], 2),
        (0.9, (1.0, 1.0), [2.0, 2.0], 2),  # softmax 0.5
        (0.0, (1.0, 1.0), [1.0, 1.0], 1),
    ],
)
def test_it_stops_at_the_first_exit_that_is_sure(
    threshold: float, values: tuple[float, float], logits: list[float], depth: int
) -> None:
    model = with_early_exits(two_exits(), [1, 2], threshold)
    onnx.checker.check_model(model, full_check=True)
    assert answer(model, *values) == (logits, depth)


def test_what_only_the_second_exit_needs_stands_in_its_branch() -> None:
    model = with_early_exits(two_exits(), [1, 2], 0.5)
    branches = {attribute.name: attribute.g for attribute in model.graph.node[-1].attribute}
    assert [node.op_type for node in branches["then_branch"].node] == ["Identity", "Constant"]
    assert [node.op_type for node in branches["else_branch"].node] == ["Relu", "MatMul", "Identity", "Constant"]
    assert [tensor.name for tensor in branches["else_branch"].initializer] == ["swap"]
    assert not model.graph.initializer


def test_numbers_of_an_exit_are_tensors_which_every_runtime_knows() -> None:
    """onnxruntime 1.10 takes a list of one number for a number without dimensions, and does not load the file."""
    model = with_early_exits(two_exits(), [1, 2], 0.5)
    branches = [attribute.g for attribute in model.graph.node[-1].attribute]
    nodes = [node for graph in (model.graph, *branches) for node in graph.node if node.op_type == "Constant"]
    assert [[attribute.name for attribute in node.attribute] for node in nodes] == [["value"]] * 3
    exits = sorted(numpy_helper.to_array(node.attribute[0].t).tolist() for node in nodes[1:])
    assert exits == [[1], [2]]


def test_the_threshold_stands_in_the_file() -> None:
    model = with_early_exits(two_exits(), [1, 2], 0.75)
    assert {entry.key: entry.value for entry in model.metadata_props}[THRESHOLD_PROPERTY] == "0.75"


def test_a_depth_that_the_graph_lacks_is_named() -> None:
    with pytest.raises(ExportError, match=r"^the graph has no exit of depth 3$"):
        with_early_exits(two_exits(), [1, 3], 0.5)
    with pytest.raises(ExportError, match=r"^an early exit needs two depths at least$"):
        with_early_exits(two_exits(), [1], 0.5)
