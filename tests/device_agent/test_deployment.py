"""The final model replaces the one before only after it has computed something."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from device_agent.deployment import install_model
from fedlp_edge.errors import DeviceError


def write_model(path: Path, factor: float) -> Path:
    entry = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 4])
    leaving = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])
    weight = numpy_helper.from_array(np.full(4, factor, np.float32), "w")
    graph = helper.make_graph([helper.make_node("Add", ["input", "w"], ["logits"])], "g", [entry], [leaving], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def test_points_the_link_at_the_latest_model(tmp_path: Path):
    models = tmp_path / "models"
    for run in ("first", "second"):
        path = install_model(write_model(tmp_path / "blob", 1.0), models, run, "onnx-3")
        assert path == models / f"{run}-depth-3.onnx"
        assert (models / "current.onnx").resolve() == path
    assert sorted(p.name for p in models.iterdir()) == ["current.onnx", "first-depth-3.onnx", "second-depth-3.onnx"]


def test_outlives_a_runtime_that_crashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "onnxruntime.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(DeviceError, match=r"onnxruntime was ended by SIGILL on this processor \(.+\); install another"):
        install_model(write_model(tmp_path / "blob", 1.0), tmp_path / "models", "run", "onnx-1")


@pytest.mark.parametrize("broken", ["no ONNX", "not finite"])
def test_keeps_the_model_before_when_the_new_one_does_not_compute(tmp_path: Path, broken: str):
    models = tmp_path / "models"
    good = install_model(write_model(tmp_path / "blob", 1.0), models, "good", "onnx-1")
    bad = write_model(tmp_path / "bad", np.inf)
    if broken == "no ONNX":
        bad.write_bytes(b"not an ONNX file")
    with pytest.raises(DeviceError, match="final model"):
        install_model(bad, models, "bad", "onnx-1")
    assert (models / "current.onnx").resolve() == good
    assert sorted(p.name for p in models.iterdir()) == ["current.onnx", "good-depth-1.onnx"]
