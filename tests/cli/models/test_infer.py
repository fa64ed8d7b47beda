"""``fedlp infer`` on folders, on names that look like markup, and on what is no input."""

from __future__ import annotations

import io
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from fedlp_edge.cli.models.infer import run_infer
from fedlp_edge.cli.models.standard_input import STANDARD_INPUT
from fedlp_edge.errors import DataError, ExportError, OperatorError
from fedlp_edge.learning.export.metadata import to_properties
from tests.learning.export.test_inference import GREY, write_model

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    named = msgspec.structs.replace(GREY, classes=("a[b]", "[/red]", "c", "d"))
    return write_model(tmp_path / "model.onnx", to_properties(named, {}))


def pictures(folder: Path, count: int, size: tuple[int, int] = (2, 2)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("L", size, number % 256).save(folder / f"part[{number:03d}].png")
    return folder


def test_classifies_all_pictures_of_a_folder_with_one_warning(model: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = pictures(tmp_path / "parts", 150, (3, 2))
    pictures(folder / "late", 3)
    (folder / ".thumbs").mkdir()
    assert run_infer(model, [folder], as_json=False) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1 + 153
    assert "part[000].png" in out
    assert "a[b]" in out
    assert err.splitlines()[-1].startswith("warning: 150 of 153 pictures were stretched: ")
    assert err.splitlines()[-1].endswith("; and 147 more")
    assert len(err.splitlines()) == 2  # the other says that a hidden entry was left out


def test_answers_of_a_folder_are_those_of_its_files(model: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = pictures(tmp_path / "parts", 70)
    np.save(folder / "z.npy", np.full((1, 2, 2), 7, np.uint8))
    assert run_infer(model, [folder], as_json=True) == 0
    together = capsys.readouterr().out.splitlines()
    assert run_infer(model, [*sorted(folder.glob("*.png")), folder / "z.npy"], as_json=True) == 0
    assert capsys.readouterr().out.splitlines() == together
    assert len(together) == 71
    assert json.loads(together[-1])["file"].endswith("z.npy")


def test_each_unreadable_picture_of_a_folder_is_a_line(model: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = pictures(tmp_path / "parts", 98)
    (folder / "torn.jpg").write_bytes(b"no picture")
    (folder / "cut.png").write_bytes((folder / "part[000].png").read_bytes()[:40])
    assert run_infer(model, [folder], as_json=False) == 3
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1 + 98
    assert [line.split(": ")[:2] for line in err.splitlines()] == [
        ["error", f"cannot read {folder / name}"] for name in ("cut.png", "torn.jpg")
    ]


def test_answers_as_much_as_it_can_of_files_that_were_named(model: Path, tmp_path: Path, capsys: Capture) -> None:
    good = next(iter(sorted(pictures(tmp_path / "parts", 1).iterdir())))
    (tmp_path / "notes.txt").write_text("some words")
    given = [tmp_path / "missing.png", tmp_path / "notes.txt", model]
    assert run_infer(model, given, as_json=False) == 2
    assert capsys.readouterr().out == ""
    assert run_infer(model, [*given, good], as_json=False) == 3
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    assert [line.split(": ")[0] for line in err.splitlines()] == ["error"] * 3
    assert all(path.name in line for path, line in zip(given, err.splitlines(), strict=True))


def piped(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    raw = io.BytesIO(content)
    stream = io.TextIOWrapper(io.BufferedReader(raw))  # type: ignore[arg-type]  # a stream in memory is raw enough
    monkeypatch.setattr("sys.stdin", stream)


def test_standard_input_lists_paths_and_numbers(
    model: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pictures(tmp_path / "parts", 2)
    lines = [folder, "", tmp_path / "none.png", "[[[0, 0], [0, 1]]]", "[1]"]
    piped(monkeypatch, "\n".join(map(str, lines)).encode())
    assert run_infer(model, [STANDARD_INPUT], as_json=True) == 3
    out, err = capsys.readouterr()
    answers = [json.loads(line) for line in out.splitlines()]
    assert [answer["file"] for answer in answers] == [
        str(folder / "part[000].png"), str(folder / "part[001].png"), "line 4",
    ]  # fmt: skip
    assert answers[-1]["label"] == "d"
    assert [line.split(" ")[1:3] for line in err.splitlines()] == [["there", "is"], ["line", "5"]]


def test_standard_input_may_be_one_picture_or_array(
    model: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = next(iter(pictures(tmp_path / "parts", 1).iterdir()))
    np.save(tmp_path / "a.npy", np.full((1, 2, 2), 7, np.uint8))
    for file in (picture, tmp_path / "a.npy"):
        piped(monkeypatch, file.read_bytes())
        assert run_infer(model, [STANDARD_INPUT], as_json=True) == 0
        assert json.loads(capsys.readouterr().out)["file"] == "-"
    piped(monkeypatch, b"\x93NUMPY but cut")
    assert run_infer(model, [STANDARD_INPUT], as_json=True) == 2
    assert capsys.readouterr().err.startswith("error: cannot read standard input: ")
    piped(monkeypatch, b"")
    with pytest.raises(DataError, match="standard input is empty"):
        run_infer(model, [STANDARD_INPUT], as_json=True)


def test_folder_without_inputs_is_said(model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    with pytest.raises(DataError, match=r"empty holds no pictures or \.npy files; left out: 1 file of other kinds"):
        run_infer(model, [tmp_path / "empty"], as_json=False)


def test_model_of_a_sensor_finds_arrays_alone(tmp_path: Path) -> None:
    sensor = msgspec.structs.replace(GREY, input_shape=(1, 1, 2, 2), mean=(0.0,), std=(1.0,))
    model = write_model(tmp_path / "m.onnx", to_properties(sensor, {}))
    folder = pictures(tmp_path / "parts", 2)
    with pytest.raises(DataError, match=r"parts holds no \.npy files"):
        run_infer(model, [folder], as_json=True)


def test_model_that_is_a_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="is a directory: name an ONNX file first"):
        run_infer(tmp_path, [tmp_path], as_json=False)


def test_model_that_does_not_stand_first_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OperatorError, match=r"the model stands first: fedlp infer a\.onnx part\.png$"):
        run_infer(Path("part.png"), [Path("a.onnx")], as_json=False)


def test_numbers_have_no_column_for_probabilities(tmp_path: Path, capsys: Capture) -> None:
    named = msgspec.structs.replace(GREY, task="regression", classes=("load", "b", "c", "d"), units=("kW",))
    model = write_model(tmp_path / "model.onnx", to_properties(named, {}))
    np.save(tmp_path / "z.npy", np.zeros((1, 2, 2), np.float32))
    assert run_infer(model, [tmp_path / "z.npy"], as_json=False) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["file", "answer"]
    assert row.endswith("load -1 kW, b -1, c -1, d -1")
