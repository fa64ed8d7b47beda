"""A tiny model file: three numbers in, two classes out, exported as by this project."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fedlp_edge.learning.export.metadata import OnnxMetadata, to_properties


def write_model(path: Path, classes: tuple[str, str] = ("nut", "bolt")) -> Path:
    """Writes a model whose logits are the sum of the first two numbers, and the third."""
    weights = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["input", "w"], ["logits"])],
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        initializer=[numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    about = OnnxMetadata(model="tiny", depth=1, input_shape=(3,), classes=classes, scale=1.0, mean=(0.0,), std=(1.0,))
    helper.set_model_props(model, to_properties(about, {}))
    onnx.save(model, path)
    return path
