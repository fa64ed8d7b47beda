"""Every depth of a model in memory as an ONNX file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.core.targets import TargetKind
from fedlp_edge.errors import DataError, ExportError
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.export import onnx as onnx_module
from fedlp_edge.learning.export.family import multi_exit_graph
from fedlp_edge.learning.export.inference import Classifier
from fedlp_edge.learning.export.layered_export import DepthFileOptions, export, export_depths, file_name
from fedlp_edge.learning.export.metadata import OPSET
from fedlp_edge.learning.export.onnx import Verified
from fedlp_edge.learning.model.layered import LayeredModel, Submodel
from fedlp_edge.learning.tasks.anomaly import Anomaly
from fedlp_edge.learning.tasks.base import LearningTask
from fedlp_edge.learning.tasks.choose_task import make_task
from fedlp_edge.learning.tasks.classification import Classification
from fedlp_edge.learning.tasks.regression import Regression
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
    with pytest.raises(DataError, match="the samples have shape 3 but the model takes 1"):
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

    def graph_of(
        model: nn.Module, example: torch.Tensor, outputs: list[str], *rest: Any, **more: Any
    ) -> onnx.ModelProto:
        asked.append(outputs)
        return onnx_module.graph_of(model, example, outputs, *rest, **more)

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


ORDINAL = """
class Ordinal:
    targets = "values"
    def __init__(self, outputs):
        self.outputs = outputs
    def loss(self, outputs, y, x):
        return (outputs - y).abs().mean()
    def sums(self, outputs, y, x):
        return {"close": ((outputs - y).abs() < 1).sum()}
    def metrics(self, sums):
        return {"close_share": sums["close"][0] / sums["samples"][0]}
    def predict(self, outputs, x):
        return {"level": outputs.round(), "doubled": outputs * 2}
"""
X = torch.tensor([[1.0, 0.5], [-2.0, 3.0], [0.25, -1.0]])


def two_exits(outputs: int) -> LayeredModel:
    torch.manual_seed(3)
    layers = [(f"l{number}", nn.Sequential(nn.Linear(2, 2), nn.Tanh())) for number in (1, 2)]
    heads = [(f"h{number}", nn.Linear(2, outputs)) for number in (1, 2)]
    return LayeredModel(layers, heads, torch.zeros(1, 2), classes=outputs)


@pytest.mark.parametrize(
    ("task", "y", "targets", "outputs", "names"),
    [
        ("classification", torch.tensor([0, 1, 1]), "class", 1, ("logits",)),
        ("multi-label", torch.tensor([[1.0, 0.0, 1.0]]).repeat(3, 1), "labels", 3, ("probabilities",)),
        ("regression", torch.tensor([[1.0], [2.0], [3.0]]), "values", 1, ("values",)),
        (Regression((20.0,), (4.0,)), torch.tensor([[1.0], [2.0], [3.0]]), "values", 1, ("values",)),
        ("anomaly", torch.tensor([0, 0, 1]), "none", 2, ("score", "anomalous", "reconstruction")),
        (Anomaly(0.5), torch.tensor([0, 0, 1]), "none", 2, ("score", "anomalous", "reconstruction")),
        ("ordinal_of_export:Ordinal", torch.tensor([[1.0], [2.0], [3.0]]), "values", 1, ("level", "doubled")),
    ],
)
def test_files_of_every_task_answer_as_pytorch_does(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    task: str | LearningTask,
    y: torch.Tensor,
    targets: TargetKind,
    outputs: int,
    names: tuple[str, ...],
) -> None:
    (tmp_path / "ordinal_of_export.py").write_text(ORDINAL)
    monkeypatch.syspath_prepend(tmp_path)
    model = two_exits(outputs).eval()
    data = Dataset.of_tensor(X, y, (), 1.0, (0.0,), (1.0,), targets=targets)
    made = export(model, tmp_path / "onnx", data, task=task)
    assert [file.path.name for file in made] == ["model-depth-1.onnx", "model-depth-2.onnx"]
    for depth, file in enumerate(made, start=1):
        about = Classifier(file.path).onnx_metadata
        assert about.outputs == names
        if isinstance(task, str) and task != "anomaly":
            meaning = make_task(ModelSettings(name="m", task=task), outputs, allow_models=None)
        else:
            meaning = task if isinstance(task, Regression) else Anomaly(about.threshold or 0.0)
        assert about.task == meaning.name
        session = onnxruntime.InferenceSession(file.path)
        for size in (1, 3):
            with torch.no_grad():
                expected = meaning.predict(model(X[:size], depth=depth), X[:size])
            for name, got in zip(names, session.run(list(names), {"input": X[:size].numpy()}), strict=True):
                np.testing.assert_allclose(got, expected[name].numpy(), rtol=1e-4, atol=1e-5)


def test_threshold_of_an_anomaly_detector_is_measured_for_each_depth(tmp_path: Path) -> None:
    model = two_exits(2).eval()
    data = Dataset.of_tensor(X, torch.tensor([0, 0, 1]), (), 1.0, (0.0,), (1.0,), targets="none")
    for depth, file in enumerate(export(model, tmp_path, data, task="anomaly"), start=1):
        with torch.no_grad():
            scores = Anomaly().predict(model(X, depth=depth), X)["score"]
        threshold = Classifier(file.path).onnx_metadata.threshold
        assert threshold == pytest.approx(float(scores[:2].max()), rel=0.2)  # of the normal ones


def test_task_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="ranking"):
        export(two_layers(), tmp_path, DATA, task="ranking")


def test_anomaly_detector_without_normal_samples_is_refused(tmp_path: Path) -> None:
    data = Dataset.of_tensor(X, torch.ones(3, dtype=torch.int64), (), 1.0, (0.0,), (1.0,), targets="none")
    with pytest.raises(ExportError, match="normal samples"):
        export(two_exits(2), tmp_path, data, task="anomaly")
