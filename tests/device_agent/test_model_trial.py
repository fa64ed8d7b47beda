"""One run of an ONNX file on zeros."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from device_agent.model_trial import main, problem_of
from tests.serving.model_file import write_model


def spoilt(path: Path) -> Path:
    """A model whose weights are not finite."""
    model = onnx.load(write_model(path))
    (weights,) = model.graph.initializer
    weights.CopyFrom(numpy_helper.from_array(np.full((3, 2), np.inf, np.float32), "w"))
    onnx.save(model, path)
    return path


def test_file_that_computes_finite_numbers_has_no_problem(tmp_path: Path) -> None:
    assert problem_of(str(write_model(tmp_path / "model.onnx"))) == ""


def test_numbers_that_are_not_finite_are_a_problem(tmp_path: Path) -> None:
    assert problem_of(str(spoilt(tmp_path / "model.onnx"))) == "computes numbers that are not finite"


def test_problem_is_one_line_and_an_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["trial", str(write_model(tmp_path / "good.onnx"))])
    main()
    assert capsys.readouterr().err == ""
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"?")
    monkeypatch.setattr("sys.argv", ["trial", str(broken)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("does not run in onnxruntime: ")
