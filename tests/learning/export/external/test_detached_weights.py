"""Models with more weights than one file holds: which files are written, and what they answer."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from blake3 import blake3

from fedlp_edge.errors import ExportError
from fedlp_edge.learning.export.external import detached_weights
from fedlp_edge.learning.export.external.detached_weights import DetachedWeights
from fedlp_edge.learning.export.family.multi_exit_graph import exits_of
from fedlp_edge.learning.export.inference import Classifier
from fedlp_edge.learning.export.layered_export import DepthFileOptions, export, export_depths
from fedlp_edge.learning.tasks.classification import Classification
from tests.learning.export.external.two_files import LEAST_BYTES, LIMIT, two_depths, write_family
from tests.learning.export.family.tiny_family import LABELS, pictures

PIXELS = pictures(LABELS).stored().numpy()


def answers(path: Path) -> list[int]:
    """The class of each picture, one by one, as a file with early exits takes them."""
    classifier = Classifier(path)
    return [int(classifier.probabilities(pixels[None]).argmax()) for pixels in PIXELS]


def test_only_a_depth_that_exceeds_a_file_has_a_second_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family = write_family(tmp_path, monkeypatch)
    assert family.refused == ()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "tiny-depth-1.onnx", "tiny-depth-2.onnx", "tiny-depth-2.onnx.data",
    ]  # fmt: skip
    assert [entry.weights_file for entry in family.entries] == ["", "tiny-depth-2.onnx.data"]
    for entry in family.entries:
        assert answers(tmp_path / entry.file) == LABELS.tolist()
        assert (entry.value, entry.agreement) == (1.0, 1.0)


def test_metadata_and_card_tell_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family = write_family(tmp_path, monkeypatch)
    model, data = tmp_path / "tiny-depth-2.onnx", (tmp_path / "tiny-depth-2.onnx.data").read_bytes()
    properties = {entry.key: entry.value for entry in onnx.load(model, load_external_data=False).metadata_props}
    assert properties["fedlp.weights_file"] == "tiny-depth-2.onnx.data"
    assert properties["fedlp.weights_bytes"] == str(len(data))
    assert properties["fedlp.weights_blake3"] == blake3(data).hexdigest()
    entry = family.entries[-1]
    assert entry.blake3 == blake3(model.read_bytes()).hexdigest()
    assert entry.bytes == len(model.read_bytes()) + len(data)


def test_a_file_of_weights_holds_each_tensor_on_a_page_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_family(tmp_path, monkeypatch)
    onnx.checker.check_model(str(tmp_path / "tiny-depth-2.onnx"))
    tensors = onnx.load(tmp_path / "tiny-depth-2.onnx", load_external_data=False).graph.initializer
    places = [{entry.key: entry.value for entry in tensor.external_data} for tensor in tensors]
    assert sorted((place["offset"], place["length"]) for place in places if place) == [
        ("0", "36"), ("4096", "36"), ("8192", "128"),
    ]  # fmt: skip
    weights = {
        t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(tmp_path / "tiny-depth-2.onnx").graph.initializer
    }
    expected = two_depths().state_dict()
    (head,) = [values for name, values in weights.items() if "H2" in name and values.size == 32]
    np.testing.assert_array_equal(head, expected["H2.1.weight"].numpy())


def test_fp16_and_int8_are_one_file_where_they_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family = write_family(tmp_path, monkeypatch, limit=170, precisions=("fp16", "int8"))
    assert family.refused == ()
    files = [f"tiny-depth-{depth}{end}.onnx" for depth in (1, 2) for end in ("-fp16", "-int8")]
    assert sorted(path.name for path in tmp_path.iterdir()) == files
    for file in files:
        assert answers(tmp_path / file) == LABELS.tolist()


def test_ranges_of_devices_are_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family = write_family(tmp_path, monkeypatch, precisions=("int8",), told={"a": (), "b": (), "c": ()})
    assert {refused.reason for refused in family.refused} == {
        "the ranges that devices have told are not used for more than 2 GiB of weights; name samples with --data"
    }


def test_a_converted_file_that_is_still_too_large_has_a_second_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = write_family(
        tmp_path, monkeypatch, limit=90, precisions=("fp16",)
    )  # 100 bytes of weights at depth 2, 82 at depth 1
    assert family.refused == ()
    assert [entry.weights_file for entry in family.entries] == ["", "tiny-depth-2-fp16.onnx.data"]
    assert answers(tmp_path / "tiny-depth-2-fp16.onnx") == LABELS.tolist()


def test_a_file_with_early_exits_has_a_second_one_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family = write_family(tmp_path, monkeypatch, limit=120, early_exit=0.85)
    assert family.refused == ()
    assert family.entries[-1].weights_file == "tiny-early-exit.onnx.data"
    assert answers(tmp_path / "tiny-early-exit.onnx") == LABELS.tolist()


def test_a_file_that_fails_its_checks_leaves_the_older_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_family(tmp_path, monkeypatch)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    save = DetachedWeights.save

    def spoil(weights: DetachedWeights, model: onnx.ModelProto, path: Path) -> None:
        save(weights, model, path)
        if (data := path.with_name(path.name + ".data")).exists():
            data.write_bytes(bytes(data.stat().st_size))

    monkeypatch.setattr(DetachedWeights, "save", spoil)
    family = write_family(tmp_path, monkeypatch)
    assert [(refused.depth, refused.reason.partition(":")[0]) for refused in family.refused] == [
        (2, "tiny-depth-2.onnx is refused")
    ]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_no_step_of_replacing_leaves_an_older_file_with_new_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_family(tmp_path, monkeypatch)
    replace, seen = os.replace, []

    def watch(source: Path, target: Path) -> None:
        seen.append((target.name, (tmp_path / "tiny-depth-2.onnx").exists()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watch)
    write_family(tmp_path, monkeypatch)
    assert seen[-2:] == [("tiny-depth-2.onnx.data", False), ("tiny-depth-2.onnx", False)]


def test_what_a_killed_export_left_is_cleared_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny-depth-2.onnx.data.part").mkdir()
    (tmp_path / "tiny-depth-2.onnx.data.part" / "tiny-depth-2.onnx.data").write_bytes(b"half")
    assert write_family(tmp_path, monkeypatch).refused == ()
    assert not (tmp_path / "tiny-depth-2.onnx.data.part").exists()


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "tiny-depth-2.onnx.data")

    monkeypatch.setattr(DetachedWeights, "_write_weights", full)
    with pytest.raises(ExportError, match="No space left on device"):
        write_family(tmp_path, monkeypatch)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny-depth-1.onnx"]


def test_what_no_graph_exporter_takes_is_refused_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older exporter makes one message of everything, which at this size fails after minutes."""
    asked = []
    monkeypatch.setattr("fedlp_edge.learning.export.onnx._export_by_tracing", lambda *_: asked.append("traced"))

    def fail(*_: object) -> onnx.ModelProto:
        raise ValueError("no such operator")

    monkeypatch.setattr("fedlp_edge.learning.export.onnx._export_by_graph", fail)
    with pytest.raises(ExportError, match="PyTorch cannot export this model to ONNX: no such operator"):
        write_family(tmp_path, monkeypatch, limit=100)
    assert asked == []


def test_python_export_writes_two_files_and_a_run_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detached_weights, "MAX_BYTES", LIMIT)
    monkeypatch.setattr(detached_weights, "LEAST_BYTES", LEAST_BYTES)
    export(two_depths(), tmp_path / "api", pictures(LABELS), name="tiny")
    assert sorted(path.name for path in (tmp_path / "api").iterdir()) == [
        "tiny-depth-1.onnx", "tiny-depth-2.onnx", "tiny-depth-2.onnx.data",
    ]  # fmt: skip
    x = pictures(LABELS).batch(slice(0, 4))[0]
    with torch.no_grad():
        expected = two_depths().eval()(x).softmax(dim=1).numpy()
    found = Classifier(tmp_path / "api" / "tiny-depth-2.onnx").probabilities(x.numpy())
    np.testing.assert_allclose(found, expected, atol=1e-5)
    tasks = dict.fromkeys((1, 2), Classification(2))
    results = export_depths(
        exits_of(two_depths(), (1, 2)), tasks, pictures(LABELS), tmp_path / "run", DepthFileOptions(), one_file=True
    )
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["model-depth-1.onnx"]
    assert str(results[2]) == (
        "depth 2 of model has 0.0 GiB of weights, and devices get one ONNX file, which holds 2 GiB at most: fedlp "
        "export writes it with its weights in a second file, or smaller with --precision fp16,int8"
    )
