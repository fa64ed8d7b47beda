"""Errors of onnxruntime and of exporters in one line."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import onnxruntime
import pytest
from onnx import helper

from fedlp_edge.learning.export.runtime_errors import runtime_reason


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model from /tmp/a b.onnx failed:no protobuf", "no protobuf"),
        ("\x1b[31mwrong\x1b[0m\nmore", "wrong"),
        (
            "No ONNX function found for <OpOverload(op='aten.foo', overload='x')>",
            "there is no ONNX operator for aten.foo",
        ),
        (
            "No ONNX function found for <OpOverload(op='aten._fused_moving_avg_obs_fq_helper', overload='x')>",
            "there is no ONNX operator for aten._fused_moving_avg_obs_fq_helper, which fake quantisation calls; leave "
            "that out: int8 files are made of a model in float32",
        ),
        ("", "ValueError"),
        ("x" * 301, "x" * 300 + " ..."),
    ],
)
def test_an_error_is_one_readable_line(text: str, line: str) -> None:
    assert runtime_reason(ValueError(text)) == line


def test_the_root_cause_is_told() -> None:
    error = ValueError("outside")
    error.__cause__ = KeyError("inside")
    assert runtime_reason(error) == "'inside'"


@pytest.mark.parametrize(
    ("opset", "form", "reason"),
    [
        (99, 10, r"it uses opset 99, and this onnxruntime knows opsets up to \d+: update onnxruntime here"),
        (18, 999, r"it has IR version 999, and this onnxruntime knows versions up to \d+: update onnxruntime here"),
    ],
)
def test_a_file_for_a_newer_onnxruntime_is_told_from_a_damaged_one(
    tmp_path: Path, opset: int, form: int, reason: str
) -> None:
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=form)
    onnx.save(model, tmp_path / "newer.onnx")
    with pytest.raises(Exception, match=r"opset|IR version") as said:
        onnxruntime.InferenceSession(tmp_path / "newer.onnx", providers=["CPUExecutionProvider"])
    assert re.match(reason, runtime_reason(said.value))
