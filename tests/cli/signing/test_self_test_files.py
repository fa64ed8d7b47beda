"""Self-tests are made for the files that have none."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from fedlp_edge.cli.signing.self_test_files import make_self_tests
from fedlp_edge.learning.export.self_test import check_self_test


def test_file_without_a_self_test_gets_one_and_a_broken_one_is_named(tmp_path: Path) -> None:
    entry = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 2])
    leaving = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])
    graph = helper.make_graph([helper.make_node("Neg", ["input"], ["logits"])], "g", [entry], [leaving])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(tmp_path / "good.onnx"))
    (tmp_path / "broken-int8.onnx").write_bytes(b"no model")
    (tmp_path / "tested.onnx").write_bytes(b"no model")
    (tmp_path / "tested.selftest.npz").write_bytes(b"mine")

    problems = make_self_tests(tmp_path)

    assert list(problems) == ["broken-int8.onnx"]
    assert "does not load in onnxruntime" in problems["broken-int8.onnx"]
    assert check_self_test(tmp_path / "good.onnx", tmp_path / "good.selftest.npz") == ""
    assert (tmp_path / "tested.selftest.npz").read_bytes() == b"mine"
