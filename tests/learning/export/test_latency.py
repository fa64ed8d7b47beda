"""A file is measured in a process of its own, on random samples or on given ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fedlp_edge.errors import ExportError
from fedlp_edge.learning.export.early_exit import with_early_exits
from fedlp_edge.learning.export.latency import measure
from tests.learning.export.test_early_exit import two_exits


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Stops at exit 1 where the values differ by three."""
    path = tmp_path / "exits.onnx"
    onnx.save(with_early_exits(two_exits(), [1, 2], 0.9), path)
    return path


def test_percentiles_rise_and_exits_are_counted(model: Path) -> None:
    samples = np.array([[0, 3], [0, 3], [0, 3], [1, 1]], dtype=np.float32)
    latency = measure(model, threads=1, seconds=0.0, samples=samples)
    assert latency.runs == 20
    assert 0 < latency.milliseconds[50] <= latency.milliseconds[90] <= latency.milliseconds[99]
    assert latency.exits == {1: 0.75, 2: 0.25}
    assert latency.size == model.stat().st_size
    assert latency.file == str(model)


def test_samples_of_another_shape_are_refused_in_one_line(model: Path) -> None:
    with pytest.raises(ExportError, match=r"exits.onnx: .*nvalid dimensions") as caught:
        measure(model, seconds=0.0, samples=np.zeros((1, 5), dtype=np.float32))
    assert "\n" not in str(caught.value)


def test_what_is_no_model_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ExportError, match=r"broken.onnx: it is cut short, damaged or no ONNX file"):
        measure(path, seconds=0.0)


def test_a_graph_that_looks_its_input_up_is_measured_on_zeros_and_ones(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["input"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["logits"]),
    ]
    table = numpy_helper.from_array(np.ones((2, 3), dtype=np.float32), "table")
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 4])
    found = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4, 3])
    graph = helper.make_graph(nodes, "lookup", [given], [found], initializer=[table])
    path = tmp_path / "lookup.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    assert measure(path, threads=1, seconds=0.0).runs == 20
