"""The files of a tiny model: each depth in each precision, and one with early exits."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.export.family.model_family import FamilyOptions, FamilyResult, ModelFamily
from fedlp_edge.learning.export.family.multi_exit_graph import exits_of
from fedlp_edge.learning.export.inference import Classifier
from fedlp_edge.learning.model.layered import LayeredModel
from fedlp_edge.learning.tasks.base import LearningTask
from fedlp_edge.learning.tasks.classification import Classification
from fedlp_edge.learning.tasks.regression import Regression

LABELS = torch.arange(40) % 2


def a_model(outputs: int) -> LayeredModel:
    """Two convolutions, the first with a weak head and the second with one that tells bright from dark pictures."""
    torch.manual_seed(1)
    layers = [(f"l{number}", nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.ReLU())) for number in (1, 2)]
    heads = [(f"h{number}", nn.Sequential(nn.Flatten(), nn.Linear(16, outputs))) for number in (1, 2)]
    for _, layer in layers:
        nn.init.constant_(layer[0].weight, 0.2)
        nn.init.zeros_(layer[0].bias)
    if outputs == 2:
        for number, (_, head) in enumerate(heads, start=1):
            head[1].weight.data = torch.stack([torch.full((16,), -0.1), torch.full((16,), 0.1)]) * number
            head[1].bias.data = torch.tensor([1.0, -1.0]) * (2.0, 5.5)[number - 1]
    return LayeredModel(layers, heads, torch.zeros(1, 1, 4, 4), classes=outputs)


def pictures(y: torch.Tensor, targets: str = "class") -> Dataset:
    bright = torch.where(LABELS == 1, 200, 60)[:, None, None, None]
    x = (bright + torch.randint(0, 40, (40, 1, 4, 4), generator=torch.Generator().manual_seed(0))).to(torch.uint8)
    return Dataset.of_tensor(x, y, ("dark", "bright"), 1 / 255, (0.0,), (0.5,), targets=targets)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FamilyResult]:
    directory, data = tmp_path_factory.mktemp("family"), pictures(LABELS)
    model = exits_of(a_model(2), (1, 2))
    options = FamilyOptions(
        name="tiny", classes=("dark", "bright"), metadata={"run": "r"}, precisions=("fp32", "fp16", "int8"),
        early_exit=0.85,
    )  # fmt: skip
    tasks: dict[int, LearningTask] = {depth: Classification(2) for depth in (1, 2)}
    return directory, ModelFamily(model, tasks, data, data, directory, options).write()


def test_there_is_a_file_for_each_depth_and_precision_and_one_with_early_exits_each(
    written: tuple[Path, FamilyResult],
) -> None:
    directory, family = written
    assert family.refused == ()
    assert [entry.file for entry in family.entries] == [
        f"tiny-depth-{depth}{end}.onnx" for depth in (1, 2) for end in ("", "-fp16", "-int8")
    ] + [f"tiny-early-exit{end}.onnx" for end in ("", "-fp16", "-int8")]
    for entry in family.entries:
        content = (directory / entry.file).read_bytes()
        assert (entry.bytes, entry.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert entry.value == 1.0  # bright and dark pictures are easily told apart
        assert entry.agreement == 1.0
    assert sorted(path.name for path in directory.iterdir()) == sorted(entry.file for entry in family.entries)


def test_every_file_takes_bytes_in_any_number_and_says_so(written: tuple[Path, FamilyResult]) -> None:
    directory, family = written
    x = pictures(LABELS).stored().numpy()
    for entry in family.entries:
        classifier = Classifier(directory / entry.file)
        assert classifier.onnx_metadata.input_type == "uint8"
        assert classifier.onnx_metadata.depth == entry.depth
        given = x[:1] if entry.exits else x
        assert (classifier.probabilities(given).argmax(axis=1) == LABELS[: len(given)].numpy()).all()
        properties = onnx.load(directory / entry.file).metadata_props
        assert {"fedlp.run": "r", "fedlp.precision": entry.precision}.items() <= {
            (one.key, one.value) for one in properties
        }


def test_pictures_are_read_by_the_files_whatever_they_take(written: tuple[Path, FamilyResult], tmp_path: Path) -> None:
    directory, family = written
    files = []
    for number in range(3):
        files.append(tmp_path / f"{number}.npy")
        np.save(files[-1], pictures(LABELS).stored().numpy()[number])
    for entry in family.entries:
        answers = [answer.label for _, answer in Classifier(directory / entry.file).predict_all(files)]
        assert answers == ["dark", "bright", "dark"]


def test_a_regression_is_written_in_every_precision(tmp_path: Path) -> None:
    data = pictures(LABELS[:, None].float() * 10 + 100, "values")
    task = Regression((105.0,), (5.0,))
    tasks: dict[int, LearningTask] = {2: task}
    options = FamilyOptions(name="tiny", classes=("weight",), units=("g",), precisions=("fp16",), raw_input=False)
    family = ModelFamily(exits_of(a_model(1), (2,)), tasks, data, data, tmp_path, options).write()
    assert [(entry.file, entry.precision) for entry in family.entries] == [("tiny-depth-2-fp16.onnx", "fp16")]
    assert family.entries[0].value is not None
    session = onnxruntime.InferenceSession(str(tmp_path / "tiny-depth-2-fp16.onnx"))
    (values,) = session.run(["values"], {"input": data.batch(slice(0, 3))[0].numpy()})
    x = data.batch(slice(0, 3))[0]
    expected = task.predict(a_model(1).eval()(x), x)["values"].detach().numpy()
    np.testing.assert_allclose(values, expected, rtol=0.01)
