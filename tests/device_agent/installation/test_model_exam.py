"""Exams of a model in onnxruntime, in this process: the self-test, and the exam beside the old model."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from device_agent.installation.exam_process import ExamInput, ExamOrder
from device_agent.installation.model_exam import examine, same_answer
from fedlp_edge.learning.export.inference import Prediction
from fedlp_edge.learning.export.metadata import OnnxMetadata, to_properties
from fedlp_edge.learning.export.self_test import make_self_test


def write_classifier(path: Path, weights: list[float]) -> Path:
    """A classifier of samples of three numbers, of which the largest, each times its weight, is the class."""
    entry = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3])
    leaving = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])
    weight = numpy_helper.from_array(np.array(weights, np.float32), "w")
    graph = helper.make_graph([helper.make_node("Mul", ["input", "w"], ["logits"])], "g", [entry], [leaving], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    about = OnnxMetadata(
        model="m", depth=1, input_shape=(3,), classes=("a", "b", "c"), scale=1.0, mean=(0.0,), std=(1.0,)
    )
    helper.set_model_props(model, to_properties(about, {}))
    path.write_bytes(model.SerializeToString())
    return path


def write_inputs(directory: Path) -> tuple[ExamInput, ...]:
    """Ten samples of class a, b, c, a, ..."""
    inputs = []
    for number in range(10):
        sample = np.full(3, 0.1, np.float32)
        sample[number % 3] = 1.0
        np.save(directory / f"{number}.npy", sample)
        inputs.append(ExamInput(str(directory / f"{number}.npy"), "abc"[number % 3]))
    return tuple(inputs)


def test_self_test_decides_first(tmp_path: Path) -> None:
    good = write_classifier(tmp_path / "good.onnx", [1, 1, 1])
    bad = write_classifier(tmp_path / "bad.onnx", [1, 1, -1])
    test = tmp_path / "test.npz"
    test.write_bytes(make_self_test(good, 1e-3))
    assert examine(ExamOrder(model=str(good), self_test=str(test))).problem == ""
    assert examine(ExamOrder(model=str(bad), self_test=str(test))).problem.startswith("answers its self-test otherwise")


def test_model_without_a_self_test_runs_once_on_zeros(tmp_path: Path) -> None:
    assert examine(ExamOrder(model=str(write_classifier(tmp_path / "m.onnx", [1, 1, 1])))).problem == ""
    found = examine(ExamOrder(model=str(write_classifier(tmp_path / "m.onnx", [np.inf, 1, 1])))).problem
    assert found == "computes numbers that are not finite"


def test_two_models_answer_the_same_inputs(tmp_path: Path) -> None:
    old = write_classifier(tmp_path / "old.onnx", [1, 1, 1])
    new = write_classifier(tmp_path / "new.onnx", [1, 1, -1])
    broken = tmp_path / "broken.npy"
    broken.write_bytes(b"no array")
    inputs = (*write_inputs(tmp_path), ExamInput(str(broken)))
    figures = examine(ExamOrder(model=str(new), old=str(old), inputs=inputs)).shadow
    assert figures is not None
    assert (figures.inputs, figures.agreement, figures.old_right, figures.new_right) == (10, 0.7, 1.0, 0.7)
    assert figures.new_milliseconds > 0


def test_old_model_that_does_not_run_is_no_measure(tmp_path: Path) -> None:
    (tmp_path / "old.onnx").write_bytes(b"no model")
    new = write_classifier(tmp_path / "new.onnx", [1, 1, 1])
    found = examine(ExamOrder(model=str(new), old=str(tmp_path / "old.onnx"), inputs=write_inputs(tmp_path)))
    assert (found.problem, found.shadow and found.shadow.inputs) == ("", 0)


def value(*numbers: float) -> Prediction:
    return Prediction("f", "text", None, (), None, tuple((f"v{place}", number) for place, number in enumerate(numbers)))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Prediction("f", "a", 0.9, ()), Prediction("f", "a", 0.4, ()), True),
        (Prediction("f", "a", 0.9, ()), Prediction("f", "b", 0.9, ()), False),
        (value(10.0), value(10.5), True),
        (value(10.0), value(12.0), False),
        (value(10.0), value(10.0, 1.0), False),
        (
            Prediction("f", "normal", None, (), None, (("score", 1.0),)),
            Prediction("f", "normal", None, (), None, (("score", 2.0),)),
            True,
        ),
    ],
)
def test_answers_are_the_same_when_an_owner_would_say_so(one: Prediction, other: Prediction, same: bool) -> None:
    assert same_answer(one, other) is same


def test_order_survives_the_command_line(tmp_path: Path) -> None:
    order = ExamOrder(model="m", old="o", inputs=(ExamInput("i", "label"),))
    assert msgspec.json.decode(msgspec.json.encode(order).decode(), type=ExamOrder) == order
