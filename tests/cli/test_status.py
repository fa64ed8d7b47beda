"""The report of a run directory."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from fedlp_edge.cli.status import newest_run_here, run_status
from fedlp_edge.core.metrics.serving_report import ServingReport
from fedlp_edge.errors import StorageError
from fedlp_edge.reporting.events import DeviceServing


def test_shows_what_devices_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = ServingReport(
        file="m.onnx", answers=1200, milliseconds={50: 1.5, 99: 3.25}, labels={"nut": 1200}, drift=0.5
    )
    event = DeviceServing(time=1.0, device="pi", report=report)
    (tmp_path / "events.jsonl").write_bytes(msgspec.json.encode(event) + b"\n")
    assert run_status(tmp_path) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["pi", "m.onnx", "1,200", "0", "1.5", "ms", "3.2", "ms", "0.50", "nut", "1,200"] in rows


def test_a_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="holds no run"):
        run_status(tmp_path)


def test_without_a_name_it_is_the_newest_run_in_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError, match=r"there is no run in runs in .*; name the directory of one"):
        newest_run_here()
    (tmp_path / "runs" / "pictures").mkdir(parents=True)
    for name, time in (("shop-1", 2000), ("shop-2", 3000), ("demo", 1000)):
        checkpoints = tmp_path / "runs" / name / "checkpoints"
        checkpoints.mkdir(parents=True)
        os.utime(checkpoints, (time, time))
    assert newest_run_here() == Path("runs/shop-2")
