"""The serving process of an agent: started with the first model, started again when it ends, ended with the agent."""

from __future__ import annotations

import queue
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from device_agent.installation.serving_process import ServingProcess
from device_agent.limits import LIMITS
from device_agent.protocol.events import ServingReported
from fedlp_edge.serving.serving_options import ServingOptions
from tests.serving.model_file import write_model


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def pass_until(self, process: ServingProcess) -> None:
        self.now = process.next_wakeup()
        process.poll()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Programs that are run instead of the server, first to last; started ones are taken out."""
    programs: list[str] = []

    popen = subprocess.Popen

    def run(command: list[str], **options: object) -> object:
        return popen([sys.executable, "-c", programs.pop(0)], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "Popen", run)
    return programs


def test_a_process_that_ends_is_started_again_later_each_time(
    tmp_path: Path, started: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    model = tmp_path / "current.onnx"
    process = ServingProcess(ServingOptions(model=str(model)), lambda _: None, clock)
    process.poll()
    assert clock.now == 0.0
    assert process.next_wakeup() == LIMITS.serving.look_seconds
    model.touch()
    started += ["import sys; sys.exit('error: no such port')"] * 2
    waits = []
    for _ in range(2):
        clock.pass_until(process)
        assert process._process is not None
        process._process.wait()
        _wait_for(lambda: process._said)
        clock.pass_until(process)
        waits.append(process.next_wakeup() - clock.now)
    assert waits == [1.0, 2.0]
    assert "the model is not served: no such port; trying again in 1 s" in caplog.text
    process.stop()


def test_lines_that_are_reports_are_passed_on_and_the_end_of_the_agent_ends_it(
    tmp_path: Path, started: list[str]
) -> None:
    (tmp_path / "current.onnx").touch()
    started.append("""import sys; print('noise'); print('{"report":{"answers":7}}', flush=True); sys.stdin.read()""")
    reports: queue.Queue[ServingReported] = queue.Queue()
    process = ServingProcess(ServingOptions(model=str(tmp_path / "current.onnx")), reports.put, Clock())
    process.poll()
    assert reports.get(timeout=30).report.answers == 7
    running = process._process
    assert running is not None
    process.stop()
    assert running.returncode == 0


def test_the_server_serves_the_installed_model_and_reports(tmp_path: Path) -> None:
    write_model(tmp_path / "tiny.onnx")
    (tmp_path / "current.onnx").symlink_to("tiny.onnx")
    options = ServingOptions(model=str(tmp_path / "current.onnx"), listen=("127.0.0.1", 0), report_seconds=0.05)
    reports: queue.Queue[ServingReported] = queue.Queue()
    process = ServingProcess(options, reports.put, time.monotonic)
    process.poll()
    try:
        report = reports.get(timeout=60).report
    finally:
        process.stop()
    assert (report.file, report.answers) == ("tiny.onnx", 0)


def _wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 30
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
