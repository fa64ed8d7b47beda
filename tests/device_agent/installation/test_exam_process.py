"""Exams in a process of their own: what ends that process ends nothing else."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from device_agent.installation import exam_process
from device_agent.installation.exam_process import ExamOrder, ExamProcess, ExamStoppedError
from tests.device_agent.installation.test_model_exam import write_classifier


def test_answer_of_the_process_comes_back(tmp_path: Path) -> None:
    assert ExamProcess().run(ExamOrder(model=str(write_classifier(tmp_path / "m.onnx", [1, 1, 1])))).problem == ""


@pytest.mark.parametrize(
    ("runtime", "problem"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "ended its exam by SIGSEGV on this processor"),
        ("import os\nos._exit(3)", "could not be examined: exit code 3"),
        ("import time\ntime.sleep(60)", "was not through its exam after 1 s"),
    ],
    ids=["crash", "exit", "hang"],
)
def test_runtime_that_does_not_answer_is_a_problem_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str, problem: str
) -> None:
    (tmp_path / "onnxruntime.py").write_text(runtime)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    limits = exam_process._LIMITS
    if "sleep" in runtime:
        limits = type(limits)(exam_seconds=1.0)
    monkeypatch.setattr(exam_process, "_LIMITS", limits)
    model = write_classifier(tmp_path / "m.onnx", [1, 1, 1])
    assert ExamProcess().run(ExamOrder(model=str(model))).problem.startswith(problem)


def test_exam_ends_with_its_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime.py").write_text(
        f"import pathlib, time\npathlib.Path({str(tmp_path / 'begun')!r}).touch()\ntime.sleep(60)"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    exam = ExamProcess()

    def stop() -> None:
        while not (tmp_path / "begun").exists():
            pass
        exam.stop()

    stopping = threading.Thread(target=stop)
    stopping.start()
    with pytest.raises(ExamStoppedError):
        exam.run(ExamOrder(model=str(write_classifier(tmp_path / "m.onnx", [1, 1, 1]))))
    stopping.join()
    with pytest.raises(ExamStoppedError):
        exam.run(ExamOrder(model="any"))
