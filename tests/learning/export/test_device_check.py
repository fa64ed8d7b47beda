"""A device compares the ONNX file that it has got with its own copy of the model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from fedlp_edge.errors import ExportError
from fedlp_edge.learning.data.dataset import Dataset, load_data
from fedlp_edge.learning.export.device_check import COMPARED, WRITTEN, compare_file, write_samples
from fedlp_edge.learning.export.inference import Classifier, Prediction
from fedlp_edge.learning.export.metadata import OnnxMetadata
from fedlp_edge.learning.export.onnx import export
from fedlp_edge.learning.tasks.classification import Classification

DATA = load_data("digits#limit=300")
TASK = Classification(10)


def model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)).eval()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    metadata = OnnxMetadata(
        model="mlp", depth=1, input_shape=(1, 8, 8), classes=DATA.classes, scale=1.0, mean=(0.0,), std=(1.0,)
    )
    return export(model(), metadata, DATA, tmp_path_factory.mktemp("onnx") / "net.onnx", {}).path


def test_the_same_weights_compute_the_same(file: Path) -> None:
    found = compare_file(file, model(), DATA, TASK)
    assert (found.samples, found.agreement, found.problem) == (COMPARED, 1.0, None)
    assert found.max_abs_diff < 1e-5


def test_other_weights_are_found_out(file: Path) -> None:
    found = compare_file(file, model(seed=1), DATA, TASK)
    assert found.problem is not None
    assert "differs from PyTorch" in found.problem
    assert found.agreement < 0.9


def test_a_file_that_is_none_is_said(tmp_path: Path) -> None:
    broken = tmp_path / "net.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(ExportError, match=r"net\.onnx is refused: onnxruntime does not load it"):
        compare_file(broken, model(), DATA, TASK)


def test_a_file_with_other_outputs_is_said(file: Path) -> None:
    class Renamed(Classification):
        def predict(self, outputs: torch.Tensor, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"values": super().predict(outputs, x)["logits"]}

    assert compare_file(file, model(), DATA, Renamed(10)).problem == "has other outputs than the model: logits"


def test_held_out_samples_are_written_as_inference_reads_them(file: Path, tmp_path: Path) -> None:
    directory = tmp_path / "models" / "held_out"
    for _ in range(2):  # those of the run before are replaced
        write_samples(DATA, directory)
    paths = sorted(directory.iterdir())
    assert len(paths) == WRITTEN
    assert [path.name for path in paths[:2]] == [
        f"{number:03d}={int(DATA.y[at])}.npy" for number, at in ((0, 0), (1, 4))
    ]
    answers = [answer for _, answer in Classifier(file).predict_all(paths)]
    assert all(isinstance(answer, Prediction) for answer in answers)


def test_samples_without_a_class_have_no_label(tmp_path: Path) -> None:
    values = Dataset.of_tensor(torch.zeros(2, 3), torch.zeros(2, 1), ("speed",), 1.0, (0.0,), (1.0,), targets="value")
    write_samples(values, tmp_path / "held_out")
    assert sorted(path.name for path in (tmp_path / "held_out").iterdir()) == ["000=.npy", "001=.npy"]


def test_class_whose_name_no_file_can_hold_is_left_out(tmp_path: Path) -> None:
    named = Dataset.of_tensor(torch.zeros(2, 3), torch.tensor([0, 1]), ("a/b", "c"), 1.0, (0.0,), (1.0,))
    write_samples(named, tmp_path / "held_out")
    assert sorted(path.name for path in (tmp_path / "held_out").iterdir()) == ["000=.npy", "001=c.npy"]
