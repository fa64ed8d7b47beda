"""Every depth of a model in memory as an ONNX file of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fedlp_edge.errors import DataError, ExportError
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.export.inference import Classifier
from fedlp_edge.learning.export.layered_export import export, file_name
from tests.two_layers import two_layers


def samples(x: torch.Tensor) -> Dataset:
    return Dataset.of_tensor(x, torch.zeros(len(x), dtype=torch.int64), ("nut", "bolt"), 1.0, (0.0,), (1.0,))


DATA = samples(torch.tensor([[1.0], [2.0], [3.0]]))


@pytest.mark.parametrize(
    ("model", "name"),
    [("mlp", "mlp-depth-2.onnx"), ("torchvision:resnet18", "torchvision-resnet18-depth-2.onnx"),
     ("my.models:net", "my.models-net-depth-2.onnx"), ("a/../b c", "a-..-b-c-depth-2.onnx")],
)  # fmt: skip
def test_name_of_a_file_says_model_and_depth(model: str, name: str) -> None:
    assert file_name(model, 2) == name


def test_file_of_a_depth_is_checked_and_answers_in_the_words_of_the_data(tmp_path: Path) -> None:
    model = two_layers()
    with torch.no_grad():
        model.get_submodule("L1").weight.copy_(torch.tensor([[1.0], [-1.0]]))  # type: ignore[union-attr, operator]
    (made,) = export(model, tmp_path / "onnx", DATA, depths=[2, 2], name="sign", metadata={"run": "first"})
    assert made.path == tmp_path / "onnx" / "sign-depth-2.onnx"
    assert made.accuracy == 1.0
    assert made.max_abs_diff < 1e-5
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    for name, value in (("up", 2.0), ("down", -2.0)):
        np.save(inputs / name, np.array([value], np.float32))
    classifier = Classifier(made.path)
    assert [classifier.predict(inputs / f"{name}.npy").label for name in ("up", "down")] == ["nut", "bolt"]


def test_depth_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        export(two_layers(), tmp_path, DATA, depths=[1, 3])
    assert str(caught.value) == "the model has depths 1 to 2, not 3"
    assert list(tmp_path.iterdir()) == []


def test_data_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the samples are 3 but the model takes 1"):
        export(two_layers(), tmp_path, samples(torch.ones(1, 3)))
