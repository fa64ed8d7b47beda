"""A graph with two exits, and what a graph answers."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


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
