"""An ONNX file and the file that holds its weights: moved together, apart, and mixed up."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from fedlp_edge.cli.models.bench import run_bench
from fedlp_edge.cli.models.infer import run_infer
from fedlp_edge.errors import ExportError
from fedlp_edge.learning.export.external.weights_file import bytes_of_model, check_weights, weights_file_of
from fedlp_edge.learning.export.inference import Classifier
from fedlp_edge.learning.export.latency import measure
from tests.learning.export.external.two_files import write_family
from tests.learning.export.family.tiny_family import LABELS, pictures
from tests.serving.model_file import write_model


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pair")
    with pytest.MonkeyPatch.context() as monkeypatch:
        write_family(directory, monkeypatch)
    return directory


@pytest.fixture
def pair(exported: Path, tmp_path: Path) -> tuple[Path, Path]:
    shutil.copytree(exported, tmp_path / "moved")  # both files together
    return tmp_path / "moved" / "tiny-depth-2.onnx", tmp_path / "moved" / "tiny-depth-2.onnx.data"


def picture(directory: Path) -> Path:
    np.save(directory / "bright.npy", pictures(LABELS).stored().numpy()[1])
    return directory / "bright.npy"


def test_a_pair_that_was_moved_answers_and_is_measured(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data = pair
    assert run_infer(model, [picture(tmp_path)], as_json=False) == 0
    assert "bright" in capsys.readouterr().out
    assert measure(model, threads=1, seconds=0.01).size == model.stat().st_size + data.stat().st_size
    assert bytes_of_model(model) == model.stat().st_size + data.stat().st_size


def test_missing_weights_are_named(pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, data = pair
    data.unlink()
    line = (
        "tiny-depth-2.onnx keeps its weights in tiny-depth-2.onnx.data, which is not beside it: copy both files to one "
        "folder, under the names that they have"
    )
    with pytest.raises(ExportError) as refused:
        run_infer(model, [picture(tmp_path)], as_json=False)
    assert str(refused.value).endswith(line)
    assert run_bench([model], [], 1, 0.01, as_json=False) == 2
    error = capsys.readouterr().err.strip()
    assert error.endswith(line)
    assert len(error.splitlines()) == 1


def test_a_renamed_model_names_the_weights_that_it_needs(pair: tuple[Path, Path]) -> None:
    model, data = pair
    data.rename(data.with_name("best.onnx.data"))
    with pytest.raises(ExportError, match=r"best\.onnx keeps its weights in tiny-depth-2\.onnx\.data, which is not"):
        Classifier(model.rename(model.with_name("best.onnx")))


def test_weights_of_another_model_are_refused(pair: tuple[Path, Path]) -> None:
    model, data = pair
    size = data.stat().st_size
    data.write_bytes(bytes(size))  # onnxruntime takes them without a word
    with pytest.raises(ExportError, match=r"onnx\.data does not hold the weights that tiny-depth-2\.onnx was exported"):
        Classifier(model)
    data.write_bytes(bytes(size - 4))
    with pytest.raises(ExportError, match=rf"it has {size - 4} bytes in place of {size}; copy both files again"):
        Classifier(model)


def test_a_name_that_leads_elsewhere_is_refused(pair: tuple[Path, Path]) -> None:
    model, _ = pair
    proto = onnx.load(model, load_external_data=False)
    for entry in proto.metadata_props:
        if entry.key == "fedlp.weights_file":
            entry.value = "../secret"
    model.write_bytes(proto.SerializeToString())
    with pytest.raises(ExportError, match=r"names no file beside it for its weights, but '\.\./secret'"):
        check_weights(model)


def test_a_file_with_its_weights_inside_names_no_other(tmp_path: Path) -> None:
    model = write_model(tmp_path / "whole.onnx")
    assert weights_file_of(model) is None
    check_weights(model)
    assert bytes_of_model(model) == model.stat().st_size


@pytest.mark.parametrize("content", [b"", b"no model", b"\x72\xff\xff", b"\x72\x02\x0a\x00"])
def test_what_is_no_model_is_left_to_onnxruntime(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.onnx").write_bytes(content)
    assert weights_file_of(tmp_path / "broken.onnx") is None
    check_weights(tmp_path / "broken.onnx")
