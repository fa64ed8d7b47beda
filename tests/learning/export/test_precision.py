"""A file in another precision answers like the one in float32, with smaller weights and the same input and output."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fedlp_edge.errors import ExportError
from fedlp_edge.learning.export.precision import PRECISION_PROPERTY, Precision, convert, file_of

WEIGHTS = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
SAMPLES = np.random.default_rng(1).standard_normal((40, 64)).astype(np.float32)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """One linear layer with a rectifier."""
    nodes = [helper.make_node("MatMul", ["input", "w"], ["h"]), helper.make_node("Relu", ["h"], ["logits"])]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 32])],
        initializer=[numpy_helper.from_array(WEIGHTS, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, {"fedlp.model": "linear"})
    path = tmp_path / "linear-depth-1.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("precision", "tokens", "error"),
    # The error of 64 weights in steps of 1/63 of the largest, 3.5, has a deviation of 0.13; 0.6 is 4.5 times that.
    [("fp16", False, 0.05), ("int8", False, 0.5), ("int8", True, 0.6)],
)
def test_it_computes_nearly_the_same_from_smaller_weights(
    source: Path, precision: Precision, tokens: bool, error: float
) -> None:
    target = file_of(source, precision)
    convert(source, target, precision, SAMPLES, tokens=tokens)
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    (got,) = session.run(["logits"], {"input": SAMPLES})
    expected = np.maximum(SAMPLES @ WEIGHTS, 0)
    assert 0 < np.abs(got - expected).max() < error
    assert target.stat().st_size < (0.6 if precision == "fp16" else 0.5) * source.stat().st_size
    assert not any("onnxruntime" in entry for entry in sys.path)
    properties = session.get_modelmeta().custom_metadata_map
    assert properties == {"fedlp.model": "linear", PRECISION_PROPERTY: precision}


def test_softmax_and_normalisations_stay_in_float32_in_half_precision(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("LayerNormalization", ["input", "one"], ["n"], name="norm"),
        helper.make_node("MatMul", ["n", "w"], ["h"], name="product"),
        helper.make_node("Softmax", ["h"], ["s"], name="softmax"),
        helper.make_node("MatMul", ["s", "v"], ["logits"], name="second"),
    ]
    tensors = {"one": np.ones(64, np.float32), "w": WEIGHTS, "v": np.eye(32, dtype=np.float32)}
    graph = helper.make_graph(
        nodes,
        "attention",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 32])],
        initializer=[numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, tmp_path / "a.onnx")
    convert(tmp_path / "a.onnx", tmp_path / "half.onnx", "fp16", SAMPLES)
    graph = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "half.onnx")).graph
    types = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    assert {node.op_type: types.get(node.output[0]) for node in graph.node if node.op_type != "Cast"} == {
        "LayerNormalization": TensorProto.FLOAT,
        "MatMul": TensorProto.FLOAT16,
        "Softmax": TensorProto.FLOAT,
    }


def test_files_of_other_precisions_stand_beside_the_first(tmp_path: Path) -> None:
    assert file_of(tmp_path / "cnn-depth-2.onnx", "int8").name == "cnn-depth-2-int8.onnx"
    assert file_of(tmp_path / "cnn-depth-2.onnx", "fp32").name == "cnn-depth-2.onnx"


def test_what_is_no_model_is_refused_in_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(ExportError, match=r"^broken.onnx cannot be converted to fp16: ") as caught:
        convert(broken, tmp_path / "half.onnx", "fp16", SAMPLES)
    assert "\n" not in str(caught.value)


def test_normalisations_stay_in_float_and_the_layers_around_them_do_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    tensors = {
        "w": rng.standard_normal((4, 1, 3, 3)),
        "scale": rng.standard_normal(4),
        "shift": rng.standard_normal(4),
        "mean": np.zeros(4),
        "var": np.ones(4),
        "v": rng.standard_normal((2, 4, 3, 3)),
    }
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("BatchNormalization", ["b", "scale", "shift", "mean", "var"], ["c"]),
        helper.make_node("Conv", ["c", "v"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "normalised",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2, 4, 4])],
        initializer=[numpy_helper.from_array(value.astype(np.float32), name) for name, value in tensors.items()],
    )
    source, target = tmp_path / "n.onnx", tmp_path / "n-int8.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), source)
    convert(source, target, "int8", rng.standard_normal((40, 1, 8, 8)).astype(np.float32))
    made = onnx.load(target).graph
    types = {tensor.name: tensor.data_type for tensor in made.initializer}
    (norm,) = [node for node in made.node if node.op_type == "BatchNormalization"]
    assert [types.get(name) for name in norm.input[1:]] == [TensorProto.FLOAT] * 4
    assert sum(1 for kind in types.values() if kind == TensorProto.INT8) >= 2, "both convolutions have 8-bit weights"
