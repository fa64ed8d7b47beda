"""Starts the process that examines a model, and reads its answer; defines what is asked and answered."""

from __future__ import annotations

import subprocess
import sys
import threading

import msgspec

from device_agent.limits import LIMITS
from fedlp_edge.errors import DeviceError
from fedlp_edge.system.portable.process_ends import signal_of
from fedlp_edge.system.processor_info import processor_name
from fedlp_edge.wire.messages import ShadowFigures

_LIMITS = LIMITS.installation


class ExamInput(msgspec.Struct, frozen=True):
    """One input of the exam beside the old model.

    Attributes:
        path: Path of a picture, or of a ``.npy`` file of one sample.
        label: The right answer; empty if it is not known.
    """

    path: str
    label: str = ""


class ExamOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What to examine.

    Attributes:
        model: Path of the model.
        self_test: Path of its self-test; empty to run the model once on zeros.
        old: Path of the model that answers today; empty for no exam beside it.
        inputs: Inputs that both models answer.
    """

    model: str
    self_test: str = ""
    old: str = ""
    inputs: tuple[ExamInput, ...] = ()


class ExamResult(msgspec.Struct, frozen=True, kw_only=True):
    """What an exam found.

    Attributes:
        problem: What is wrong, in words that follow "the model"; empty if nothing is.
        shadow: Answers of both models; None if there was no such exam.
    """

    problem: str = ""
    shadow: ShadowFigures | None = None


class ExamStoppedError(DeviceError):
    """The agent ends while a model is examined; that says nothing of the model."""


class ExamProcess:
    """Examines one model at a time, each in a process of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False

    def run(self, order: ExamOrder) -> ExamResult:
        """Examines a model.

        A process that ends by itself or takes too long is a problem of the model: what answers with it would end, too.

        Raises:
            ExamStoppedError: ``stop`` was called.
        """
        words = [
            sys.executable,
            "-P",
            "-m",
            "device_agent.installation.model_exam",
            msgspec.json.encode(order).decode(),
        ]
        with self._lock:
            if self._stopped:
                raise ExamStoppedError("the agent ends")
            self._process = process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        try:
            output, said = process.communicate(timeout=_LIMITS.exam_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return ExamResult(problem=f"was not through its exam after {_LIMITS.exam_seconds:g} s")
        if self._stopped:
            raise ExamStoppedError("the agent ends")
        return _result(process.returncode, output, said)

    def stop(self) -> None:
        """Ends the exam that is under way; none begins after it. May be called from any thread."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                self._process.kill()


def _result(code: int, output: str, said: str) -> ExamResult:
    if name := signal_of(code):
        return ExamResult(problem=f"ended its exam by {name} on this processor ({processor_name()})")
    lines = output.strip().splitlines()
    if code or not lines:
        last = (said.strip().splitlines() or [f"exit code {code}"])[-1][:300]
        return ExamResult(problem=f"could not be examined: {last}")
    return msgspec.json.decode(lines[-1], type=ExamResult)
