"""This module starts and supervises the demo's child processes, which end with the demo.

Every child has its own session, so that only the demo gets Ctrl-C, and a pipe as standard input, so that it notices the
end of the demo in any case.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from fedlp_edge.errors import FedLPError
from fedlp_edge.system.lifecycle import STOP_WITH_STDIN
from fedlp_edge.system.portable.process_ends import signal_of
from fedlp_edge.system.portable.sessions import end_session, own_session
from fedlp_edge.system.portable.stop_signals import ask_to_end

_TAIL_BYTES = 8192


@dataclass
class Child:
    """One process of the fleet.

    Attributes:
        name: Name in messages, and of the log file.
        command: Program and arguments.
        log: File that its output is appended to.
        restarts: Number of restarts.
    """

    name: str
    command: Sequence[str]
    log: Path
    restarts: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for the signal that ended it."""
        return None if self.process is None else self.process.poll()

    def tail(self, lines: int = 12) -> str:
        """The last lines of its log."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
                content = file.read().decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(content.splitlines()[-lines:])


class Supervisor:
    """A supervisor of child processes; a context manager that ends all of them.

    Args:
        logs: Directory of their log files.
        environment: Environment variables added to this process's.
    """

    def __init__(self, logs: Path, environment: Mapping[str, str] | None = None) -> None:
        self._logs = logs
        self._environment = {**os.environ, **(environment or {}), STOP_WITH_STDIN: "1", "PYTHONUNBUFFERED": "1"}
        self.children: list[Child] = []

    def start(self, name: str, command: Sequence[str]) -> Child:
        """Starts a process; its standard output and error go to ``NAME.log``."""
        child = self._new(name, command)
        self._spawn(child, announce=False)
        return child

    def start_and_read_line(self, name: str, command: Sequence[str], seconds: float) -> tuple[Child, str]:
        """Starts a process and waits for the first line that it prints.

        Raises:
            FedLPError: The process ended, or printed nothing in time.
        """
        child = self._new(name, command)
        self._spawn(child, announce=True)
        line = _first_line(child, seconds)
        if line is None:
            raise FedLPError(f"{child.name} did not start{_because(child)}")
        return child, line

    def restart(self, child: Child) -> None:
        """Starts a child that has ended once more."""
        child.restarts += 1
        self._spawn(child, announce=False)

    def stop(self, children: Iterable[Child], patience: float = 10.0) -> None:
        """Asks processes to end, waits, and kills what is left of their sessions."""
        chosen = list(children)
        for child in chosen:
            if child.process is not None and child.process.poll() is None:
                ask_to_end(child.process)
        deadline = time.monotonic() + patience
        for child in chosen:
            if child.process is None:
                continue
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
            _sweep(child.process)

    def wait(self, children: Iterable[Child], patience: float) -> list[Child]:
        """Waits for processes to end by themselves; returns those that did not."""
        deadline = time.monotonic() + patience
        late = []
        for child in children:
            try:
                if child.process is not None:
                    child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                late.append(child)
        return late

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # The broker is started first and stopped last, since the others disconnect through it.
        brokers, others = self.children[:1], self.children[1:]
        self.stop(others)
        self.stop(brokers)

    def _new(self, name: str, command: Sequence[str]) -> Child:
        self._logs.mkdir(parents=True, exist_ok=True)
        child = Child(name, command, self._logs / f"{name}.log")
        self.children.append(child)
        return child

    def _spawn(self, child: Child, *, announce: bool) -> None:
        with child.log.open("ab") as log:
            child.process = subprocess.Popen(
                child.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if announce else log,
                stderr=log,
                env=self._environment,
                **own_session(),
            )


def exit_error(child: Child) -> FedLPError:
    """The error that says how a child ended, with the last line of its log."""
    code = child.exit_code
    name = "" if code is None else signal_of(code)
    how = f"was killed ({name})" if name else f"ended with code {code}"
    return FedLPError(f"{child.name} {how}{_because(child)}")


def _because(child: Child) -> str:
    last = child.tail(1).strip().removeprefix("error: ")
    return f": {last} (log: {child.log})" if last else f"; its log is {child.log}"


def _first_line(child: Child, seconds: float) -> str | None:
    assert child.process is not None
    assert child.process.stdout is not None
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    pipe = child.process.stdout
    # A thread, since Windows has no select for pipes.
    threading.Thread(target=lambda: lines.put(pipe.readline()), name="first-line", daemon=True).start()
    try:
        line = lines.get(timeout=seconds)
    except queue.Empty:
        return None
    if not line.endswith(b"\n"):
        child.process.poll()
        return None
    return line.decode(errors="replace").strip()


def _sweep(process: subprocess.Popen[bytes]) -> None:
    """Ends the processes left in a child's session, such as the worker of a killed agent."""
    end_session(process)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
