"""Errors of onnxruntime and of exporters in one line."""

from __future__ import annotations

import pytest

from fedlp_edge.learning.export.runtime_errors import runtime_reason


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model from /tmp/a.onnx failed:no protobuf", "no protobuf"),
        ("\x1b[31mwrong\x1b[0m\nmore", "wrong"),
        (
            "No ONNX function found for <OpOverload(op='aten.foo', overload='x')>",
            "there is no ONNX operator for aten.foo",
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
