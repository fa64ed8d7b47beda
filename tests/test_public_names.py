"""What ``import fedlp_edge`` offers."""

from __future__ import annotations

import pydoc
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import fedlp_edge
from fedlp_edge.learning.data.dataset import Dataset


def small_model() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


def test_every_public_name_is_there_and_documented() -> None:
    for name in fedlp_edge.__all__:
        assert getattr(fedlp_edge, name).__doc__, name
        assert name in fedlp_edge.__doc__, f"help(fedlp_edge) does not name {name}"


def test_importing_the_package_loads_no_torch() -> None:
    code = "import fedlp_edge, sys; fedlp_edge.FedLPError; fedlp_edge.Experiment; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_onnxruntime_reports_to_nobody_unless_the_owner_wants_it(tmp_path: Path) -> None:
    code = "import fedlp_edge, onnxruntime"
    environment = {"HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}  # not CI, which mutes it as well
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=Path(__file__).parents[1], check=True)
    assert list(tmp_path.iterdir()) == []
    chosen = {**environment, "ORT_DISABLE_TELEMETRY": "0"}
    printed = "import fedlp_edge, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run([sys.executable, "-c", printed], env=chosen, capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


def test_help_begins_with_a_table_of_contents() -> None:
    text = pydoc.plain(pydoc.render_doc(fedlp_edge))
    contents = [text.index(part) for part in ("Splitting a model", "Trying a fleet", "Using the result", "Errors")]
    assert contents == sorted(contents)


def test_a_model_is_split_exported_and_asked(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = fedlp_edge.partition(small_model(), torch.zeros(1, 1, 2, 2))
    assert isinstance(model.layers, nn.ModuleList)
    assert [type(layer) for layer in model.layers] == [nn.Sequential] * len(model.depths)
    x = torch.eye(4).reshape(4, 1, 2, 2)
    data = Dataset.of_tensor(x, torch.tensor([0, 1, 0, 1]), ("nut", "washer"), 1.0, (0.0,), (1.0,))

    files = fedlp_edge.export(model, tmp_path, data, name="tiny")

    assert [file.path.name for file in files] == [f"tiny-depth-{depth}.onnx" for depth in model.depths]
    np.save(tmp_path / "one.npy", x[0].numpy())
    (prediction,) = fedlp_edge.infer(files[-1].path, tmp_path / "one.npy")
    expected = model(x[:1]).softmax(1)[0].detach()
    assert prediction.label == ("nut", "washer")[int(expected.argmax())]
    assert prediction.probability == pytest.approx(float(expected.max()), abs=1e-5)


def test_a_depth_that_does_not_exist_is_named() -> None:
    model = fedlp_edge.partition(small_model(), torch.zeros(1, 1, 2, 2))
    data = Dataset.of_tensor(torch.zeros(2, 1, 2, 2), torch.tensor([0, 1]), (), 1.0, (0.0,), (1.0,))
    with pytest.raises(fedlp_edge.ExportError, match="not 9"):
        fedlp_edge.export(model, "unused", data, depths=[9])
