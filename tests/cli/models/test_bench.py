"""``fedlp bench`` prints a line for each file that it could measure, and an error for each that it could not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import onnx
import pytest

from fedlp_edge.cli.models.bench import run_bench
from fedlp_edge.errors import DataError, OperatorError
from tests.learning.export.test_early_exit import two_exits


def test_a_folder_with_a_good_and_a_broken_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(two_exits(), tmp_path / "good.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    assert run_bench([tmp_path], [], 1, 0.0, as_json=True) == 3
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["runs"] == 20
    assert 0 < found["cpu_milliseconds"] < 1000
    assert err == f"error: {tmp_path}/broken.onnx: it is cut short, damaged or no ONNX file (Protobuf parsing failed)\n"


def test_the_table_names_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(two_exits(), tmp_path / "part[a].onnx")
    assert run_bench([tmp_path / "part[a].onnx"], [], 1, 0.0, as_json=False) == 0
    printed = capsys.readouterr().out
    assert "part[a].onnx" in printed
    assert "CPU time" in printed


def test_missing_onnxruntime_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(OperatorError, match=r'^inference needs onnxruntime: pip install "fedlp-edge\[inference\]"$'):
        run_bench([tmp_path / "a.onnx", tmp_path / "b.onnx"], [], 1, 0.0, as_json=False)


def test_nothing_to_measure(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no .onnx file$"):
        run_bench([tmp_path], [], 1, 0.0, as_json=False)
