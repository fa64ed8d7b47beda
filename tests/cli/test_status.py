"""The report of a run directory."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from fedlp_edge.cli.status import newest_run_here, run_status
from fedlp_edge.core.metrics.serving_report import ServingReport
from fedlp_edge.errors import ConfigError, StorageError
from fedlp_edge.reporting.events import DeviceServing, RoundStarted, RunStarted
from fedlp_edge.storage.run_directory import RunDirectory


def test_shows_what_devices_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = ServingReport(
        file="m.onnx", answers=1200, milliseconds={50: 1.5, 99: 3.25}, labels={"nut": 1200}, drift=0.5
    )
    event = DeviceServing(time=1.0, device="pi", report=report)
    (tmp_path / "events.jsonl").write_bytes(msgspec.json.encode(event) + b"\n")
    assert run_status(tmp_path) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["pi", "m.onnx", "1,200", "0", "1.5", "ms", "3.2", "ms", "0.50", "nut", "1,200"] in rows


def begin_a_round(directory: Path) -> RunDirectory:
    started = RunStarted(time=1.0, run="shop-1", fleet="shop", model="cnn", depths=2, parameters=10, rounds=9)
    opened = RoundStarted(time=61.0, round=3, devices=("pi",), deadline_seconds=300.0)
    with (directory / "events.jsonl").open("wb") as file:
        file.writelines(msgspec.json.encode(event) + b"\n" for event in (started, opened))
    return RunDirectory(directory)


def test_a_run_that_was_killed_does_not_look_as_if_it_went_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin_a_round(tmp_path)
    assert run_status(tmp_path) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "1:00" in shown
    assert (
        "no process of this machine is at work on it: it was killed, or the power went, in round 3, after 1970" in shown
    )
    assert "the same command goes on" in shown


def test_a_run_at_which_a_coordinator_is_at_work_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = begin_a_round(tmp_path)
    run.lock()
    assert run_status(tmp_path) == 0
    run.unlock()
    shown = " ".join(capsys.readouterr().out.split())
    assert "round 3, at most 5:00" in shown
    assert "killed" not in shown


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


@pytest.mark.parametrize("url", ["mqtt://broker.local", "wss://broker.local/mqtt"])
def test_a_broker_is_looked_at_by_another_command(url: str) -> None:
    with pytest.raises(ConfigError, match="status takes the directory of a run; who is at a broker is listed by fedlp"):
        run_status(Path(url))
