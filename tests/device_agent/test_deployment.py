"""The final model becomes a version only after it has computed something."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from device_agent.deployment import store_model
from device_agent.installation.version_store import VersionStore
from fedlp_edge.errors import DeviceError


def write_model(path: Path, factor: float) -> Path:
    entry = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 4])
    leaving = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])
    weight = numpy_helper.from_array(np.full(4, factor, np.float32), "w")
    graph = helper.make_graph([helper.make_node("Add", ["input", "w"], ["logits"])], "g", [entry], [leaving], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def test_stores_the_model_of_every_run_under_its_name(tmp_path: Path):
    store = VersionStore(tmp_path / "models")
    for factor, run in enumerate(("first", "second")):
        target = store_model(write_model(tmp_path / "blob", factor), store, run, "onnx-3")
        assert store.path(target).name == f"{run}-depth-3.onnx"
        assert store.path(target).read_bytes() == (tmp_path / "blob").read_bytes()
    assert store.current == "", "it is for the installer to switch"


def test_outlives_a_runtime_that_crashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "onnxruntime.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(DeviceError, match=r"onnxruntime was ended by SIGILL on this processor \(.+\); install another"):
        store_model(write_model(tmp_path / "blob", 1.0), VersionStore(tmp_path / "models"), "run", "onnx-1")


@pytest.mark.parametrize("broken", ["no ONNX", "not finite"])
def test_stores_nothing_that_does_not_compute(tmp_path: Path, broken: str):
    bad = write_model(tmp_path / "bad", np.inf)
    if broken == "no ONNX":
        bad.write_bytes(b"not an ONNX file")
    with pytest.raises(DeviceError, match="final model"):
        store_model(bad, VersionStore(tmp_path / "models"), "bad", "onnx-1")
    assert not (tmp_path / "models").exists()
