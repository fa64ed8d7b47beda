"""A worker process, and functions of the owner's that misbehave inside it."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedlp_edge.worker.jobs import Measure, WorkerOptions
from fedlp_edge.worker.process import WorkerEvent, WorkerProcess
from tests.conftest import SERVER

OWN_CODE = '''
"""Data functions that do what data functions should not."""
import os, signal, sys, time
import numpy as np

def _samples():
    return np.zeros((20, 1, 8, 8), np.uint8), np.arange(20) % 10

def asks(split):
    return _samples() if input() == "y" else None

def killed(split):
    os.kill(os.getpid(), signal.SIGKILL)

def aborted(split):
    os.abort()

def short(split):
    print("libgomp: Thread creation failed: Resource temporarily unavailable", file=sys.stderr, flush=True)
    os.abort()

def crashed(split):
    os.kill(os.getpid(), signal.SIGSEGV)

def unknown_instruction(split):
    os.kill(os.getpid(), signal.SIGILL)

def spoilt(split):
    raise RuntimeError("could not create a primitive")

def left(split):
    print("giving up", file=sys.stderr, flush=True)
    os._exit(3)

def chatty(split):
    print("hello from the user's code")
    os.write(1, b"not a reply\\n")
    os.write(2, b"a line for the log\\n")
    return _samples()

def endless(split):
    signal.pause()
'''


class Watched:
    """A worker process whose events queue up, with its log."""

    def __init__(self, log_path: Path) -> None:
        self.log_path = log_path
        self.events: queue.Queue[WorkerEvent] = queue.Queue()
        self.process = WorkerProcess(WorkerOptions(device="cpu"), self.events.put, log_path)

    def next_event(self) -> WorkerEvent:
        return self.events.get(timeout=60)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """One worker for all tests of a module, since loading torch takes seconds; it can import ``own_code``."""
    directory = tmp_path_factory.mktemp("worker")
    (directory / "own_code.py").write_text(OWN_CODE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        worker = Watched(directory / "worker.log")
        with worker.process:
            yield worker


@pytest.fixture(scope="module")
def unaided(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A worker that loads torch itself, whatever the torch server could spare it."""
    directory = tmp_path_factory.mktemp("unaided")
    (directory / "own_code.py").write_text(OWN_CODE)
    worker = Watched(directory / "worker.log")
    with worker.process:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv(SERVER, raising=False)
            patch.chdir(directory)
            worker.process.call(Measure(data="digits#limit=20", seconds=0.0), timeout=60)
        yield worker
