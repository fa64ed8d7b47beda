"""A self-test passes on the file that it was made of, and tells any other one."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from fedlp_edge.errors import DataError, ExportError
from fedlp_edge.learning.export.self_test import check_self_test, make_self_test, self_test_path


def write_model(path: Path, factor: float, *, batch: int | str = "batch", kind: int = TensorProto.FLOAT) -> Path:
    entry = helper.make_tensor_value_info("input", kind, [batch, 4])
    leaving = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 4])
    weight = numpy_helper.from_array(np.full(4, factor, np.float32), "w")
    nodes = [
        helper.make_node("Cast", ["input"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "w"], ["logits"]),
    ]
    graph = helper.make_graph(nodes, "g", [entry], [leaving], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def written(model: Path, tolerance: float = 1e-3) -> Path:
    path = self_test_path(model)
    path.write_bytes(make_self_test(model, tolerance))
    return path


@pytest.mark.parametrize("batch", ["batch", 1, 2])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.UINT8])
def test_model_passes_its_own_self_test(tmp_path: Path, batch: int | str, kind: int) -> None:
    model = write_model(tmp_path / "m.onnx", 2.0, batch=batch, kind=kind)
    assert check_self_test(model, written(model)) == ""


def test_self_test_stands_beside_its_model() -> None:
    assert self_test_path(Path("d/run-d3-int8.onnx")) == Path("d/run-d3-int8.selftest.npz")


def test_model_of_token_ids_gets_ids_that_it_knows(tmp_path: Path) -> None:
    entry = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 4])
    leaving = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])
    table = numpy_helper.from_array(np.array([1.0, 2.0], np.float32), "table")
    nodes = [
        helper.make_node("Cast", ["input"], ["ids"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "ids"], ["logits"]),
    ]
    graph = helper.make_graph(nodes, "g", [entry], [leaving], [table])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path = tmp_path / "tokens.onnx"
    path.write_bytes(model.SerializeToString())
    test = written(path)
    assert check_self_test(path, test) == ""
    with np.load(test) as arrays:
        assert set(np.unique(arrays["input"])) == {0.0, 1.0}


def test_difference_beyond_the_tolerance_fails(tmp_path: Path) -> None:
    test = written(write_model(tmp_path / "m.onnx", 2.0), 0.1)
    assert check_self_test(write_model(tmp_path / "near.onnx", 2.1), test) == ""
    found = check_self_test(write_model(tmp_path / "far.onnx", 2.5), test)
    assert found == "answers its self-test otherwise: logits differs by 25.0% of its scale, 10.0% is allowed"


def test_answers_that_are_not_finite_fail(tmp_path: Path) -> None:
    test = written(write_model(tmp_path / "m.onnx", 2.0))
    assert (
        check_self_test(write_model(tmp_path / "nan.onnx", np.nan), test)
        == "computes numbers that are not finite in logits"
    )
    with pytest.raises(ExportError, match="not finite"):
        make_self_test(tmp_path / "nan.onnx", 0.1)


def test_file_that_is_no_model_or_no_self_test_is_told(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx", 2.0)
    test = written(model)
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(ExportError, match="does not load in onnxruntime"):
        check_self_test(tmp_path / "bad.onnx", test)
    other = io.BytesIO()
    np.savez(other, input=np.zeros((1, 4), np.float32))
    for content in (b"no archive", other.getvalue(), b""):
        test.write_bytes(content)
        with pytest.raises(DataError, match="is no self-test"):
            check_self_test(model, test)


def write_early_exits(path: Path, threshold: float) -> Path:
    """Writes a model with an output that depends on whether a sample's value passes a threshold."""
    entry = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1])
    leaving = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1]),
        helper.make_tensor_value_info("exit", TensorProto.INT64, ["batch", 1]),
    ]
    values = {"t": threshold, "far": 100.0}
    nodes = [
        helper.make_node("Greater", ["input", "t"], ["passed"]),
        helper.make_node("Cast", ["passed"], ["exit"], to=TensorProto.INT64),
        helper.make_node("Mul", ["input", "far"], ["other"]),
        helper.make_node("Where", ["passed", "input", "other"], ["logits"]),
    ]
    weights = [numpy_helper.from_array(np.float32(value).reshape(1), name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "g", [entry], leaving, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(("threshold", "wrong"), [(0.25, ""), (0.35, ""), (0.65, "otherwise in exit")])
def test_few_samples_beside_a_threshold_may_stop_at_another_exit(tmp_path: Path, threshold: float, wrong: str) -> None:
    inputs = np.arange(1, 9, dtype=np.float32)[:, None] / 10
    test = tmp_path / "test.npz"
    test.write_bytes(make_self_test(write_early_exits(tmp_path / "a.onnx", 0.15), 1e-3, inputs))
    assert check_self_test(write_early_exits(tmp_path / "b.onnx", threshold), test).endswith(wrong)
    assert bool(check_self_test(tmp_path / "b.onnx", test)) is bool(wrong)
