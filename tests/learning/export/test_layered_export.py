"""Every depth of a model in memory as an ONNX file of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from fedlp_edge.errors import DataError, ExportError
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.export import onnx as onnx_module
from fedlp_edge.learning.export.family import multi_exit_graph
from fedlp_edge.learning.export.inference import Classifier
from fedlp_edge.learning.export.layered_export import DepthFileOptions, export, export_depths, file_name
from fedlp_edge.learning.export.metadata import OPSET
from fedlp_edge.learning.export.onnx import Verified
from fedlp_edge.learning.model.layered import Submodel
from fedlp_edge.learning.tasks.classification import Classification
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


def exits_of_two() -> Submodel:
    model = two_layers().submodel(2, exits="all").eval()
    with torch.no_grad():  # files hold equal tensors once
        for number, weight in enumerate(model.parameters(), start=2):
            weight.mul_(number)
    return model


TASKS = dict.fromkeys((1, 2), Classification(2))


def test_all_depths_are_one_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def graph_of(model: nn.Module, example: torch.Tensor, outputs: list[str], *rest: object) -> onnx.ModelProto:
        asked.append(outputs)
        return onnx_module.graph_of(model, example, outputs, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(multi_exit_graph, "graph_of", graph_of)
    found = export_depths(exits_of_two(), TASKS, DATA, tmp_path, DepthFileOptions(name="two"))
    assert asked == [["logits_1", "logits_2"]]
    for depth, result in found.items():
        assert isinstance(result, Verified)
        assert result.path == tmp_path / f"two-depth-{depth}.onnx"
        file = onnx.load(result.path)
        assert [value.name for value in (*file.graph.input, *file.graph.output)] == ["input", "logits"]
        assert [entry.version for entry in file.opset_import if not entry.domain] == [OPSET]
        assert {tensor.name.partition(".")[2].partition(".")[0] for tensor in file.graph.initializer} <= {
            *(f"L{number}" for number in range(1, depth + 1)), f"H{depth}",
        }  # fmt: skip


class Unexportable(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.sort(x.numpy(), axis=1))


class Unbounded(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / 0.0 * 0.0


@pytest.mark.parametrize(
    ("head", "reason"),
    [(Unexportable(), "depth 1 of two: PyTorch cannot export this model to ONNX"),
     (Unbounded(), "two-depth-1.onnx is refused: the model computes what is not a number")],
)  # fmt: skip
def test_depth_that_cannot_be_exported_is_named_and_costs_no_other(
    tmp_path: Path, head: nn.Module, reason: str
) -> None:
    model = exits_of_two()
    model.add_module("H1", head)
    found = export_depths(model, TASKS, DATA, tmp_path, DepthFileOptions(name="two"))
    assert str(found[1]).startswith(reason)
    assert isinstance(found[2], Verified)
    assert [path.name for path in tmp_path.iterdir()] == ["two-depth-2.onnx"]
