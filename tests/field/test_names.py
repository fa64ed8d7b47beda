"""Names that somebody else chose are text in everything that is printed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import fedlp_edge
from fedlp_edge.cli.data import run_data
from fedlp_edge.cli.models.infer import run_infer
from fedlp_edge.learning.export.metadata import to_properties
from tests.learning.export.test_inference import GREY, write_model


def test_brackets_in_names_of_files_and_classes_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    card = {**to_properties(GREY, {}), "fedlp.classes": '["[red]dark", "[/]light :ok:", "odd[1]", "none"]'}
    write_model(tmp_path / "model.onnx", card)
    np.save(tmp_path / "part[a].npy", np.array([[[0, 255], [128, 64]]], dtype=np.uint8))
    assert run_infer(Path("model.onnx"), [Path("part[a].npy")], as_json=False) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("part[a].npy  [/]light :ok:")
    assert "odd[1]" in line


def test_brackets_in_a_specification_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "shift[b].npz"
    np.savez(path, x=np.zeros((20, 2)), y=np.array(["[b]", "[/b]"])[np.arange(20) % 2])
    assert run_data(f"npz:{path}", 2, "iid", None, None, as_json=False) == 0
    out = capsys.readouterr().out
    assert "shift[b].npz" in out.replace("\n", "")
    assert re.search(r"device +samples +\[/b\] +\[b\]", out)


def test_every_command_writes_through_the_one_console() -> None:
    package = Path(fedlp_edge.__file__).parent
    own = [path for path in package.rglob("*.py") if re.search(r"Console\(", path.read_text(encoding="utf-8"))]
    assert [path.name for path in own] == ["console.py"]
