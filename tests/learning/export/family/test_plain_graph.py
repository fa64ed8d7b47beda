"""Graphs are written in the form that most readers know, and compute the same."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper, version_converter

from fedlp_edge.learning.export.family.plain_graph import make_plain

OPSET = helper.make_opsetid("", 18)


def _model(nodes: list[onnx.NodeProto], shapes: tuple[list[int | str], list[int | str]], **constants: object):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shapes[0])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shapes[1])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[OPSET], ir_version=8)


def _attributes(node: onnx.NodeProto) -> dict[str, object]:
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def test_recurrent_layers_do_not_state_a_layout_that_rockchip_refuses_by_its_name() -> None:
    weights = {"w": np.ones((1, 12, 3), np.float32), "r": np.ones((1, 12, 4), np.float32)}
    node = helper.make_node("GRU", ["input", "w", "r"], ["", "logits"], hidden_size=4, layout=0)
    model = _model([node], ([5, "batch", 3], [1, "batch", 4]), **weights)
    make_plain(model)
    assert _attributes(model.graph.node[0]) == {"hidden_size": 4}
    turned = helper.make_node("GRU", ["input", "w", "r"], ["", "logits"], hidden_size=4, layout=1)
    model = _model([turned], (["batch", 5, 3], ["batch", 1, 4]), **weights)
    make_plain(model)
    assert _attributes(model.graph.node[0]) == {"hidden_size": 4, "layout": 1}


def test_zeros_of_a_shape_are_taken_literally_only_where_it_has_some() -> None:
    nodes = [
        helper.make_node("Reshape", ["input", "flat"], ["a"], allowzero=1),
        helper.make_node("Constant", [], ["pairs"], value=numpy_helper.from_array(np.array([-1, 2]))),
        helper.make_node("Reshape", ["a", "pairs"], ["b"], allowzero=1),
        helper.make_node("Reshape", ["b", "none"], ["logits"], allowzero=1),
    ]
    model = _model(nodes, (["batch", 2, 2], [0, 4]), flat=np.array([-1, 4]), none=np.array([0, 4]))
    make_plain(model)
    found = [_attributes(node) for node in model.graph.node if node.op_type == "Reshape"]
    assert found == [{}, {}, {"allowzero": 1}]


def test_a_mean_can_be_converted_to_an_older_opset_and_gives_the_same() -> None:
    node = helper.make_node("ReduceMean", ["input", "axes"], ["logits"], keepdims=0, noop_with_empty_axes=0)
    model = _model([node], (["batch", 2, 3], ["batch", 3]), axes=np.array([1]))
    make_plain(model)
    assert _attributes(model.graph.node[0]) == {"keepdims": 0}
    older = version_converter.convert_version(model, 17)
    session = onnxruntime.InferenceSession(older.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.array([[[1, 2, 3], [3, 4, 9]]], np.float32)
    assert session.run(None, {"input": x})[0].tolist() == [[2, 3, 6]]


def test_convolutions_state_the_size_of_their_kernel() -> None:
    weight = np.zeros((4, 1, 3, 5), np.float32)
    model = _model([helper.make_node("Conv", ["input", "w"], ["logits"])], (["b", 1, 9, 9], ["b", 4, 7, 5]), w=weight)
    make_plain(model)
    assert _attributes(model.graph.node[0]) == {"kernel_shape": [3, 5]}


def test_the_shape_of_a_tensor_is_noted_once_and_never_with_a_batch_of_none() -> None:
    nodes = [helper.make_node("Add", ["input", "w"], ["a"]), helper.make_node("Relu", ["a"], ["logits"])]
    model = _model(nodes, (["batch", 2], ["batch", 2]), w=np.ones(2, np.float32))
    model.graph.value_info.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("w", [2]), ("a", [0, 2]), ("a", ["batch", 2]), ("a", ["other", 2]))
    )
    make_plain(model)
    (noted,) = model.graph.value_info
    assert noted.name == "a"
    assert [dimension.dim_param or dimension.dim_value for dimension in noted.type.tensor_type.shape.dim] == [
        "batch",
        2,
    ]
