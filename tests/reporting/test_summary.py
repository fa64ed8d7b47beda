from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from fedlp_edge.errors import StorageError
from fedlp_edge.reporting.summary import Summary, load, save


def test_reads_back_what_was_saved(tmp_path: Path, summary: Summary) -> None:
    save(summary, tmp_path / "summary.json")

    assert load(tmp_path / "summary.json") == summary
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_has_the_documented_keys(tmp_path: Path, summary: Summary) -> None:
    save(summary, tmp_path / "summary.json")

    content = json.loads((tmp_path / "summary.json").read_bytes())

    (entry,) = content["rounds"]
    assert {"round", "seconds", "accuracy", "devices"} <= entry.keys()
    assert entry["accuracy"] == {"1": 0.5, "3": 0.75}
    assert {
        "id", "profile", "depth", "lpr", "layers_sent", "samples", "loss", "seconds",
        "params_down", "params_up", "bytes_down", "bytes_up",
    } <= entry["devices"][0].keys()  # fmt: skip
    assert content["final"] == {
        "accuracy": {"1": 0.5, "3": 0.75},
        "model_digest": "ab" * 32,
        "round": 1,
        "metric": "",
        "value": None,
        "enough": "",
        "on_devices": {},
        "not_reporting": 0,
        "metrics": {},
        "answers": None,
    }
    assert content["onnx"] == [
        {"file": "small-cnn-depth-3.onnx", "depth": 3, "max_abs_diff": 2e-7, "accuracy": 0.745, "takes": "IMAGE"}
    ]


def test_has_a_line_for_each_round_behind_everything_else(tmp_path: Path, summary: Summary) -> None:
    path = tmp_path / "summary.json"

    save(msgspec.structs.replace(summary, rounds=(summary.rounds[0],) * 3), path)

    lines = path.read_text().splitlines()
    assert (lines[0], lines[-6], lines[-2:]) == ("{", '  "rounds": [', ["  ]", "}"])
    assert [msgspec.json.decode(line.rstrip(","))["round"] for line in lines[-5:-2]] == [1, 1, 1]


def test_a_summary_without_rounds_is_read_back(tmp_path: Path, summary: Summary) -> None:
    path = tmp_path / "summary.json"

    save(msgspec.structs.replace(summary, rounds=()), path)

    assert load(path) == msgspec.structs.replace(summary, rounds=())


def test_refuses_a_summary_that_is_missing_or_broken(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be read: No such file"):
        load(tmp_path / "summary.json")

    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(StorageError, match="not a summary of this version"):
        load(tmp_path / "summary.json")
