"""Ranges of a small graph in literal values, found again in a graph with other names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fedlp_edge.core.metrics.tensor_ranges import TensorRange
from fedlp_edge.errors import ExportError
from fedlp_edge.learning.export.activations.observed_tensors import ObservedModel, fleet_ranges, observed_ranges
from fedlp_edge.learning.export.metadata import OnnxMetadata
from fedlp_edge.learning.export.precision import converted
from tests.learning.export.test_inference_tasks import Node, write

PAIR = OnnxMetadata(
    model="m", depth=1, input_shape=(2,), classes=("nut", "bolt"), scale=1.0, mean=(0.0,), std=(1.0,)
)  # fmt: skip
WEIGHTS = np.array([[1.0, -2.0], [0.5, 1.0]], np.float32)


def graph(path: Path, name: str, weights: np.ndarray = WEIGHTS) -> bytes:
    """A linear layer and a rectifier, whose tensor in between has a name of the caller's choice."""
    nodes: list[Node] = [("MatMul", ["input", "w"], [name], {}), ("Relu", [name], [PAIR.outputs[0]], {})]
    return write(path / f"{name}.onnx", PAIR, nodes, constants={"w": weights}).read_bytes()


def samples(*rows: tuple[float, float]) -> np.ndarray:
    return np.array(rows, np.float32)


def test_ranges_are_least_and_greatest_values_of_each_tensor(tmp_path: Path) -> None:
    found = observed_ranges(graph(tmp_path, "h"), samples(*[(1.0, 2.0)] * 9, (-1.0, 0.0)))
    assert [(told.size, told.low, told.high) for told in found] == [(2, -1.0, 2.0), (2, 0.0, 2.0), (2, -1.0, 2.0)]


def test_tensors_are_found_again_by_their_values_whatever_they_are_called(tmp_path: Path) -> None:
    content = graph(tmp_path, "h")
    told = {
        name: observed_ranges(content, samples((scale, 2 * scale), (-scale, 0.0)))
        for name, scale in (("a", 1.0), ("b", 2.0), ("c", 50.0))
    }
    found = fleet_ranges(graph(tmp_path, "other"), told)
    assert found == {"input": (-2.0, 4.0), "other": (-2.0, 4.0), "logits": (0.0, 4.0)}
    assert fleet_ranges(graph(tmp_path, "other"), {name: told[name] for name in "ab"}) == {}
    assert set(fleet_ranges(graph(tmp_path, "else", WEIGHTS + 1), told)) == {"input"}


def test_what_is_no_number_or_too_large_is_not_told(tmp_path: Path) -> None:
    found = observed_ranges(graph(tmp_path, "h", WEIGHTS * np.float32(1e30)), samples((10.0, 20.0)))
    assert [told.high for told in found] == [20.0]
    found = observed_ranges(graph(tmp_path, "n"), samples((float("nan"), 1.0), (1.0, 1.0)))
    assert found == ()


def test_a_file_that_does_not_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"^activations cannot be looked at: "):
        ObservedModel(b"no model")


def test_quantisation_takes_the_ranges_of_the_fleet_and_not_those_of_the_samples(tmp_path: Path) -> None:
    model = onnx.load_from_string(graph(tmp_path, "h"))
    narrow = samples(*[(0.01, -0.01)] * 4)
    told = {name: observed_ranges(model.SerializeToString(), samples((51.0, -51.0))) for name in "abc"}

    def input_scale(made: onnx.ModelProto) -> float:
        (node,) = [node for node in made.graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "input"]
        (scale,) = [one for one in made.graph.initializer if one.name == node.input[1]]
        return float(numpy_helper.to_array(scale))

    assert input_scale(converted(model, "int8", narrow, "m")) < 0.001
    assert input_scale(converted(model, "int8", narrow, "m", told=told)) == pytest.approx(102 / 255, rel=0.01)
    two = {name: told[name] for name in "ab"}
    assert input_scale(converted(model, "int8", narrow, "m", told=two)) < 0.001


def test_ranges_of_another_model_are_refused(tmp_path: Path) -> None:
    other = (TensorRange(7, 1.0, 1.0, 0.0, 1.0),)
    model = onnx.load_from_string(graph(tmp_path, "h"))
    with pytest.raises(ExportError, match="the ranges that devices have told are of another model"):
        converted(model, "int8", samples((1.0, 1.0)), "m", told=dict.fromkeys("abc", other))
