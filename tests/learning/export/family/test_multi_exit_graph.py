"""One graph with all exits is cut into the graphs of its depths."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from fedlp_edge.learning.export.family.graph_cleaning import cleaned, without_dead_tensors
from fedlp_edge.learning.export.family.multi_exit_graph import cut_exit
from fedlp_edge.learning.export.family.raw_input import with_raw_input
from fedlp_edge.learning.export.metadata import OnnxMetadata


def two_exits() -> onnx.ModelProto:
    """Exit 1 doubles the input; exit 2 adds one to what exit 1 gives."""
    tensors = {"two": np.float32(2), "one": np.float32(1), "dead": np.zeros(9, dtype=np.float32)}
    nodes = [
        helper.make_node("Mul", ["input", "two"], ["logits_1"]),
        helper.make_node("Add", ["logits_1", "one"], ["logits_2"]),
    ]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1, 2, 2])
        for name in ("input", "logits_1", "logits_2")
    ]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()]
    graph = helper.make_graph(nodes, "two_exits", values[:1], values[1:], initializer=initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def answer(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"input": x})[0]


def test_each_exit_has_what_it_needs_and_no_more() -> None:
    first, second = (cut_exit(two_exits(), depth, ("logits",)) for depth in (1, 2))
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    np.testing.assert_array_equal(answer(first, x), 2 * x)
    np.testing.assert_array_equal(answer(second, x), 2 * x + 1)
    assert [tensor.name for tensor in first.graph.initializer] == ["two"]
    assert [tensor.name for tensor in second.graph.initializer] == ["two", "one"]


def test_tensors_that_nothing_takes_are_left_out() -> None:
    assert [tensor.name for tensor in without_dead_tensors(two_exits()).graph.initializer] == ["two", "one"]
    model = cleaned(two_exits())
    assert "dead" not in [tensor.name for tensor in model.graph.initializer]
    assert [output.name for output in model.graph.output] == ["logits_1", "logits_2"]


def test_a_graph_with_raw_input_normalises_bytes_as_a_data_set_does() -> None:
    about = OnnxMetadata(
        model="m",
        depth=1,
        input_shape=(1, 2, 2),
        classes=(),
        scale=1 / 255,
        mean=(0.5,),
        std=(0.25,),
        input_type="uint8",
    )
    model = with_raw_input(cut_exit(two_exits(), 1, ("logits",)), about)
    pixels = np.array([0, 51, 102, 255], dtype=np.uint8).reshape(1, 1, 2, 2)
    expected = 2 * (pixels.astype(np.float32) * np.float32(1 / 255) - np.float32(0.5)) / np.float32(0.25)
    np.testing.assert_array_equal(answer(model, pixels), expected)
