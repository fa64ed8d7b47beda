"""A shortened graph computes the same and is written in fewer bytes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fedlp_edge.learning.export.early_exit import with_early_exits
from fedlp_edge.learning.export.family.graph_shortening import shortened
from fedlp_edge.learning.export.family.multi_exit_graph import cut_exit
from tests.learning.export.family.graphs import answer, two_exits

X = np.arange(8, dtype=np.float32).reshape(2, 1, 2, 2)


def convolution(**stated: object) -> onnx.ModelProto:
    """A convolution whose weight and bias are each stored twice, and added up."""
    tensors = {
        name: numpy_helper.from_array(np.asarray(value, np.float32), name)
        for name, value in {
            "a.weight": [[[[2.0]]]],
            "b.weight": [[[[2.0]]]],
            "a.bias": [1.0],
            "b.bias": [1.0],
        }.items()
    }
    nodes = [
        helper.make_node("Conv", ["input", "a.weight", "a.bias"], ["a.answer"], name="first convolution", **stated),
        helper.make_node("Conv", ["input", "b.weight", "b.bias"], ["b.answer"], doc_string="second", **stated),
        helper.make_node("Add", ["a.answer", "b.answer"], ["logits"]),
    ]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1, None, None])
        for name in ("input", "logits", "a.answer")
    ]
    graph = helper.make_graph(
        nodes, "g", values[:1], values[1:2], initializer=list(tensors.values()), value_info=values[2:]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_only_what_says_nothing_is_left_out() -> None:
    model = convolution(strides=[1, 1], dilations=[1, 1], pads=[0, 0, 0, 0], group=1, auto_pad="NOTSET")
    short = shortened(model)
    assert [entry.name for entry in short.graph.input] + [entry.name for entry in short.graph.output] == [
        "input",
        "logits",
    ]
    assert [len(tensor.name) for tensor in short.graph.initializer] == [1, 1], "each constant is stored once"
    assert not short.graph.value_info
    assert [(node.name, node.doc_string, list(node.attribute)) for node in short.graph.node] == [("", "", [])] * 3
    assert short.ByteSize() < model.ByteSize() / 2
    np.testing.assert_array_equal(answer(short, X), 4 * X + 2)


@pytest.mark.parametrize(
    ("stated", "kept"),
    [
        ({"pads": [1, 1, 1, 1], "strides": [1, 1]}, ["pads"]),
        ({"strides": [2, 1], "dilations": [1, 1]}, ["strides"]),
        ({"auto_pad": "SAME_UPPER", "strides": [2, 2]}, ["auto_pad", "strides"]),
    ],
)
def test_attributes_that_matter_stay(stated: dict[str, object], kept: list[str]) -> None:
    model = convolution(**stated)
    short = shortened(model)
    assert [sorted(attribute.name for attribute in node.attribute) for node in short.graph.node] == [kept, kept, []]
    np.testing.assert_array_equal(answer(short, X), answer(model, X))


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_branches_keep_what_they_take_from_outside(threshold: float) -> None:
    graph = two_exits()
    for output in graph.graph.output:
        del output.type.tensor_type.shape.dim[2:]
        output.type.tensor_type.shape.dim[1].dim_value = 4
    graph.graph.node.insert(0, helper.make_node("Flatten", ["input"], ["flat"]))
    graph.graph.node[1].input[0] = "flat"
    model = with_early_exits(graph, (1, 2), threshold)
    short = shortened(model)
    assert short.ByteSize() < model.ByteSize()
    np.testing.assert_array_equal(answer(short, X[:1]), answer(model, X[:1]))


def test_outputs_that_are_constants_and_inputs_that_are_left_out_stay() -> None:
    tensors = [numpy_helper.from_array(np.float32([1]), name) for name in ("logits", "least", "most")]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("input", "logits", "clipped")]
    nodes = [helper.make_node("Clip", ["input", "", "most"], ["clipped"])]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], initializer=tensors)
    short = shortened(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8))
    assert list(short.graph.node[0].input[:2]) == ["input", ""]
    assert "logits" in [tensor.name for tensor in short.graph.initializer]
    onnx.checker.check_model(short, full_check=True)


def test_original_is_left_as_it_is() -> None:
    model = cut_exit(two_exits(), 2, ["logits"])
    before = model.SerializeToString()
    shortened(model)
    assert model.SerializeToString() == before


def test_nodes_that_onnxruntime_joins_have_names_of_their_own() -> None:
    """onnxruntime 1.18 to 1.20 name a Split after the Gather that it takes the place of, and refuse two of one name."""
    gathers = [helper.make_node("Gather", ["input", "first"], [f"g{number}"], axis=0) for number in (1, 2)]
    graph = helper.make_graph(
        [*gathers, helper.make_node("Add", ["g1", "g2"], ["logits"])],
        "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [2, 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [2])],
        initializer=[numpy_helper.from_array(np.array(0), "first")],
    )
    short = shortened(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8))
    assert [node.name for node in short.graph.node] == [gather.output[0] for gather in short.graph.node[:2]] + [""]
    assert len({node.name for node in short.graph.node}) == 3
