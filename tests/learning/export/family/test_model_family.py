"""The files of a tiny model: each depth in each precision, and one with early exits."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.export.early_exit import with_early_exits
from fedlp_edge.learning.export.family import model_family
from fedlp_edge.learning.export.family.model_family import FamilyOptions, FamilyResult, ModelFamily
from fedlp_edge.learning.export.family.multi_exit_graph import exits_of
from fedlp_edge.learning.export.inference import Classifier
from fedlp_edge.learning.tasks.base import LearningTask
from fedlp_edge.learning.tasks.classification import Classification
from fedlp_edge.learning.tasks.regression import Regression
from tests.learning.export.family.tiny_family import LABELS, a_model, pictures


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


def test_every_file_is_what_the_onnx_standard_asks_for(written: tuple[Path, FamilyResult]) -> None:
    directory, family = written
    for entry in family.entries:
        onnx.checker.check_model(directory / entry.file, full_check=True)


def test_pictures_are_read_by_the_files_whatever_they_take(written: tuple[Path, FamilyResult], tmp_path: Path) -> None:
    directory, family = written
    files = []
    for number in range(3):
        files.append(tmp_path / f"{number}.npy")
        np.save(files[-1], pictures(LABELS).stored().numpy()[number])
    for entry in family.entries:
        answers = [answer.label for _, answer in Classifier(directory / entry.file).predict_all(files)]
        assert answers == ["dark", "bright", "dark"]


def test_pictures_whose_white_is_not_255_are_taken_normalised(tmp_path: Path) -> None:
    """The bytes of digits go from 0 to 16, those of a picture's file to 255: a graph cannot take both as they are."""
    stored = pictures(LABELS)
    data = Dataset.of_tensor(stored.stored() // 16, LABELS, stored.classes, 1 / 16, (0.0,), (0.5,))
    tasks: dict[int, LearningTask] = {2: Classification(2)}
    options = FamilyOptions(name="tiny", classes=("dark", "bright"), precisions=("fp32", "int8"))
    family = ModelFamily(exits_of(a_model(2), (2,)), tasks, data, data, tmp_path, options).write()
    assert family.refused == ()

    files = [tmp_path / "dark.png", tmp_path / "bright.png"]
    for file, number in zip(files, (0, 1), strict=True):
        Image.fromarray(stored.stored()[number, 0].numpy()).save(file)
    for entry in family.entries:
        classifier = Classifier(tmp_path / entry.file)
        assert classifier.onnx_metadata.input_type == "float32"
        assert [answer.label for _, answer in classifier.predict_all(files)] == ["dark", "bright"]


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


def test_a_file_with_early_exits_needs_two_that_may_answer(tmp_path: Path) -> None:
    data = pictures(LABELS)
    tasks: dict[int, LearningTask] = {depth: Classification(2) for depth in (1, 2)}
    options = FamilyOptions(name="tiny", classes=("dark", "bright"), early_exit=0.5, answering=(2,))
    family = ModelFamily(exits_of(a_model(2), (1, 2)), tasks, data, data, tmp_path, options).write()
    assert [entry.depth for entry in family.entries] == [1, 2]
    (refused,) = family.refused
    assert (refused.early_exit, refused.reason) == (True, "an early exit needs two depths at least")


def test_a_file_with_early_exits_that_answers_otherwise_than_pytorch_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its logits are off by two per cent, which is less than a comparison with the depth's own file in int8 accepts."""

    def with_other_weights(joined: onnx.ModelProto, depths: tuple[int, ...], threshold: float) -> onnx.ModelProto:
        for tensor in joined.graph.initializer:
            if tensor.name.startswith("model.H"):
                tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * 1.02, tensor.name))
        return with_early_exits(joined, depths, threshold)

    monkeypatch.setattr(model_family, "with_early_exits", with_other_weights)
    data, tasks = pictures(LABELS), dict.fromkeys((1, 2), Classification(2))
    options = FamilyOptions(name="tiny", classes=("dark", "bright"), early_exit=0.85)
    family = ModelFamily(exits_of(a_model(2), (1, 2)), tasks, data, data, tmp_path, options).write()
    assert [entry.file for entry in family.entries] == ["tiny-depth-1.onnx", "tiny-depth-2.onnx"]
    (refused,) = family.refused
    assert refused.early_exit
    assert refused.reason.startswith("tiny-early-exit.onnx is refused: onnxruntime differs from PyTorch by")
    assert not (tmp_path / "tiny-early-exit.onnx").exists()


def test_a_file_that_crashes_onnxruntime_is_refused_and_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As vision transformers in half precision do: what it crashed was the whole export."""
    loaded: list[str] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        loaded.append(Path(command[-1]).name)
        return subprocess.CompletedProcess(command, -11 if "depth-2" in command[-1] else 0)

    monkeypatch.setattr(subprocess, "run", run)
    data, tasks = pictures(LABELS), dict.fromkeys((1, 2), Classification(2))
    options = FamilyOptions(name="tiny", classes=("dark", "bright"), precisions=("fp32", "fp16"))
    family = ModelFamily(exits_of(a_model(2), (1, 2)), tasks, data, data, tmp_path, options).write()
    assert loaded == ["tiny-depth-1-fp16.onnx.part", "tiny-depth-2-fp16.onnx.part"]
    assert [entry.file for entry in family.entries] == [
        "tiny-depth-1.onnx", "tiny-depth-1-fp16.onnx", "tiny-depth-2.onnx",
    ]  # fmt: skip
    assert [refused.reason for refused in family.refused] == [
        "tiny-depth-2-fp16.onnx is refused: onnxruntime crashes when it loads it (SIGSEGV); use another precision"
    ]


def test_files_answer_with_the_mean_of_the_exits_in_every_precision_and_stop_by_it(tmp_path: Path) -> None:
    data, tasks = pictures(LABELS), dict.fromkeys((1, 2), Classification(2))
    options = FamilyOptions(
        name="tiny", classes=("dark", "bright"), precisions=("fp32", "int8"), early_exit=0.85, raw_input=False
    )
    model = exits_of(a_model(2), (1, 2), "mean")
    family = ModelFamily(model, tasks, data, data, tmp_path, options).write()
    assert family.refused == ()
    x = data.batch(slice(0, 6))[0]
    with torch.no_grad():
        first, second = model.exits(x)
    for name in ("tiny-depth-2.onnx", "tiny-depth-2-int8.onnx"):
        session = onnxruntime.InferenceSession(str(tmp_path / name))
        assert session.get_modelmeta().custom_metadata_map["fedlp.answer"] == "mean of exits 1 to 2"
        (logits,) = session.run(["logits"], {"input": x.numpy()})
        mean = ((first + second) / 2).numpy()
        assert np.abs(logits - mean).max() < 0.1 * np.abs(mean).max()
        assert np.abs(logits - second.numpy()).max() > 0.1 * np.abs(mean).max()
    early = onnxruntime.InferenceSession(str(tmp_path / "tiny-early-exit.onnx"))
    assert early.get_modelmeta().custom_metadata_map["fedlp.answer"] == "mean of exits 1 to 2"
    for number in range(6):
        logits, depth = early.run(["logits", "exit"], {"input": x[number : number + 1].numpy()})
        stops = float(torch.softmax(first[number], 0).max()) >= 0.85
        assert depth == (1 if stops else 2)
        expected = first[number] if stops else (first[number] + second[number]) / 2
        np.testing.assert_allclose(logits[0], expected.numpy(), rtol=1e-4, atol=1e-5)
