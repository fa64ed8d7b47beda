"""This module starts the worker processes of the local engine, in the way that suits the system.

Linux forks them from one process that has loaded torch once. On macOS the libraries below torch may crash in a forked
process, and Windows has no fork: there every worker is a program of its own, which loads torch itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
from typing import IO, Any, Protocol

from fedlp_edge.errors import WorkerError
from fedlp_edge.simulation.engines.channel import AwaitWorker, Channel, ChannelClosedError, StartWorker, WorkerExit
from fedlp_edge.simulation.engines.recovery import death
from fedlp_edge.system.lifecycle import process_remedy
from fedlp_edge.system.portable.stop_signals import without_stop_signals

STOP_SECONDS = 5.0
SHARED_SOCKET = struct.Struct("<I")
"""Length of what follows on the standard input of a worker of Windows: its end of the socket pair."""

_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class WorkerStarter(Protocol):
    """The interface of what starts worker processes and knows their ends."""

    def start(self, worker: int) -> socket.socket:
        """Starts a worker and returns the socket that leads to it.

        Raises:
            WorkerError: No worker can be started.
        """

    def exit_code(self, worker: int) -> int:
        """Waits for the end of a worker whose socket is closed, and returns its exit code.

        Raises:
            WorkerError: What starts the workers has ended itself.
        """

    def close(self) -> None:
        """Ends all processes; the sockets of the workers are closed already."""


def worker_starter() -> WorkerStarter:
    """Returns the starter that suits this system."""
    return ForkingStarter() if sys.platform == "linux" else SpawningStarter()


class ForkingStarter:
    """Starts workers by one process that forks them (``local_worker``)."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._process = _python("local_worker", str(theirs.fileno()), stdin=subprocess.DEVNULL, passed=theirs)
        theirs.close()
        self._channel: Channel[WorkerExit] = Channel(ours, WorkerExit)

    def start(self, worker: int) -> socket.socket:
        """Asks for a worker, as ``WorkerStarter.start`` says."""
        ours, theirs = socket.socketpair()
        try:
            self._channel.send(StartWorker(worker), theirs.fileno())
        except ChannelClosedError:
            raise self._ended() from None
        finally:
            theirs.close()
        return ours

    def exit_code(self, worker: int) -> int:
        """Asks for the exit code, as ``WorkerStarter.exit_code`` says."""
        try:
            self._channel.send(AwaitWorker(worker))
            return self._channel.receive()[0].code
        except ChannelClosedError:
            raise self._ended() from None

    def close(self) -> None:
        """Ends the process that forks, and with it all workers."""
        self._channel.close()
        _end(self._process)

    def _ended(self) -> WorkerError:
        try:
            code = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
        died = death(code)
        return WorkerError(f"the process that starts the workers of the simulation {died.exit}; {died.remedy}")


class SpawningStarter:
    """Starts every worker as a program of its own (``spawned_worker``), which ends when its standard input does."""

    def __init__(self) -> None:
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, worker: int) -> socket.socket:
        """Starts a program, as ``WorkerStarter.start`` says."""
        ours, theirs = socket.socketpair()
        try:
            if sys.platform == "win32":
                process = _python("spawned_worker", stdin=subprocess.PIPE)
                shared = theirs.share(process.pid)
                _write(process.stdin, SHARED_SOCKET.pack(len(shared)) + shared)
            else:
                process = _python("spawned_worker", str(theirs.fileno()), stdin=subprocess.PIPE, passed=theirs)
        except OSError as error:
            raise WorkerError(f"cannot start a worker process of the simulation: {process_remedy(error)}") from None
        finally:
            theirs.close()
        self._processes[worker] = process
        return ours

    def exit_code(self, worker: int) -> int:
        """Ends the program if it still computes, as ``WorkerStarter.exit_code`` says."""
        process = self._processes.pop(worker)
        _close_input(process)
        return process.wait()

    def close(self) -> None:
        """Ends all programs."""
        for process in self._processes.values():
            _close_input(process)
        for process in self._processes.values():
            _end(process)
        self._processes = {}


def _python(module: str, *arguments: str, stdin: int, passed: socket.socket | None = None) -> subprocess.Popen[bytes]:
    with without_stop_signals() as options:
        further: dict[str, Any] = options if passed is None else {**options, "pass_fds": [passed.fileno()]}
        return subprocess.Popen(
            [sys.executable, "-P", "-m", f"fedlp_edge.simulation.engines.{module}", *arguments],
            stdin=stdin,
            stdout=sys.stderr,  # the output of a user's own model or data code
            env={**os.environ, **dict.fromkeys(_ONE_THREAD, "1")},
            **further,
        )


def _write(pipe: IO[bytes] | None, content: bytes) -> None:
    if pipe is not None:
        pipe.write(content)
        pipe.flush()


def _close_input(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
