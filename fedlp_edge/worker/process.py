"""This module starts a worker process, gives it jobs, and reports its replies and deaths.

Training may be killed by the kernel when memory runs out, crash in native code, or take minutes. In a separate process
that costs one job; in this process it would cost the MQTT connection. The next job starts a dead worker again.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from fedlp_edge.errors import (
    DataError,
    ExportError,
    FedLPError,
    FreezeError,
    ModelError,
    StartWeightsError,
    WorkerError,
)
from fedlp_edge.system.lifecycle import process_remedy
from fedlp_edge.system.loading.loading_errors import loading_remedy
from fedlp_edge.system.portable.process_ends import (
    ILLEGAL_INSTRUCTION,
    NO_ACCESS,
    crashed,
    how_it_ended,
    killed_for_memory,
    signal_of,
)
from fedlp_edge.system.portable.stop_signals import without_stop_signals
from fedlp_edge.system.processor_info import install_hint, processor_name, torch_version
from fedlp_edge.worker.jobs import (
    AnyJob,
    AnyResult,
    Calibrate,
    Failed,
    Measure,
    Reply,
    Request,
    Train,
    WorkerOptions,
)

_ERRORS: dict[str, type[FedLPError]] = {
    "data": DataError,
    "model": ModelError,
    "freeze": FreezeError,
    "start-weights": StartWeightsError,
    "export": ExportError,
}
_TAIL_LINES = 40
_STOP_SECONDS = 1.0

_TOO_LITTLE_MEMORY = ("bad_alloc", "MemoryError", "Cannot allocate memory", "Thread creation failed")
"""Messages of native code that aborts because memory ran out."""

_CRASHES_FOR_MEMORY = ("SIGSEGV", "SIGABRT", "SIGBUS")
"""Signals that end native code that does not check whether an allocation succeeded."""


@dataclass(frozen=True, slots=True)
class WorkerReply:
    """This event says that a job is done, or has failed (``result`` is then ``Failed``)."""

    id: int
    result: AnyResult


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """This event says that the process died; there is one event per lost job.

    Attributes:
        exit: End of the process, as text that follows "the worker process".
        job_id: Number of the lost job; None if there was none.
        memory: Whether a lack of memory is the most likely cause.
        crashed: Whether native code in the process crashed.
    """

    exit: str
    job_id: int | None
    memory: bool = False
    crashed: bool = False


WorkerEvent = WorkerReply | WorkerDied
WorkerSink = Callable[[WorkerEvent], None]


class WorkerProcess:
    """A worker process, which the first job starts, and the next job after a death starts again.

    Args:
        options: Threads, device and limits of the process.
        sink: Callback for WorkerReply and WorkerDied, called from a thread; None if only ``call`` is used.
        log_path: File to which the process's standard error is appended; None keeps only the last lines, for the
            message about a death.
    """

    def __init__(self, options: WorkerOptions, sink: WorkerSink | None = None, log_path: Path | None = None) -> None:
        self._options = options
        self._sink = sink
        self._log_path = log_path
        self._lock = threading.Lock()
        self._running: _Running | None = None
        self._last_id = 0

    def submit(self, job: AnyJob) -> int:
        """Submits a job and returns at once; jobs are done in order.

        Returns:
            Number of the job, which its WorkerReply or WorkerDied has too.

        Raises:
            ValueError: The object was made without a sink.
            WorkerError: The process cannot be started.
        """
        if self._sink is None:
            raise ValueError("submit needs a sink; use call")
        return self._send(job, self._sink)

    def call(self, job: AnyJob, timeout: float | None = None) -> AnyResult:
        """Submits a job and waits for its result.

        Args:
            job: Job.
            timeout: Seconds after which the worker is ended; None waits for ever.

        Raises:
            DataError: The data are unusable.
            ModelError: The model is unusable.
            ExportError: The model cannot be exported.
            WorkerError: Another error, a lack of memory included.
        """
        answers: queue.SimpleQueue[WorkerEvent] = queue.SimpleQueue()
        self._send(job, answers.put)
        try:
            event = answers.get(timeout=timeout)
        except queue.Empty:
            self.stop()
            raise WorkerError(f"the worker did not finish {type(job).__name__} within {timeout:g} s") from None
        if isinstance(event, WorkerDied):
            raise WorkerError(f"the worker process {event.exit}")
        if isinstance(event.result, Failed):
            raise _ERRORS.get(event.result.kind, WorkerError)(event.result.reason)
        return event.result

    @property
    def pid(self) -> int | None:
        """The process id, for monitoring tools; None while there is no process."""
        running = self._running
        return running.pid if running is not None and running.alive else None

    @property
    def device(self) -> str:
        """The device of the computation: ``auto``, ``cpu`` or ``cuda``."""
        return self._options.device

    def use_cpu(self) -> None:
        """Makes the next process compute on the CPU."""
        with self._lock:
            self._options = msgspec.structs.replace(self._options, device="cpu")

    def stop(self) -> None:
        """Ends the process within two seconds; jobs that it has not finished are dropped silently."""
        with self._lock:
            running, self._running = self._running, None
        if running is not None:
            running.stop()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _send(self, job: AnyJob, sink: WorkerSink) -> int:
        with self._lock:
            self._last_id += 1
            self._hand_in(Request(id=self._last_id, job=job), sink)
            return self._last_id

    def _hand_in(self, request: Request, sink: WorkerSink) -> None:
        """Gives a job to the running process, or to a new one."""
        if self._running is None or not self._running.alive or not self._running.send(request, sink):
            self._running = _Running(self._options, self._log_path, self._sink, self._take_over)
            self._running.send(request, sink)

    def _take_over(self, left: dict[int, tuple[AnyJob, WorkerSink]]) -> None:
        """Gives the unfinished jobs of an ended process to a new one."""
        with self._lock:
            for job_id, (job, sink) in left.items():
                self._hand_in(Request(id=job_id, job=job), sink)


class _Running:
    """One process, which is never started again once it has ended."""

    def __init__(
        self,
        options: WorkerOptions,
        log_path: Path | None,
        sink: WorkerSink | None,
        take_over: Callable[[dict[int, tuple[AnyJob, WorkerSink]]], None],
    ) -> None:
        self._sink = sink
        self._take_over = take_over
        self._retired = False
        self._lock = threading.Lock()
        self._pending: dict[int, tuple[AnyJob, WorkerSink]] = {}
        self._limits_memory = options.limits_memory
        self._stopping = False
        self._ended = False
        self._unreadable = ""
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        # -P keeps the current directory from shadowing modules; the worker appends it at the end instead.
        command = [sys.executable, "-P", "-m", "fedlp_edge.worker.main", msgspec.json.encode(options).decode()]
        # A user's torch.compile would call a C++ compiler for each shape of each layer: minutes, and 150 MB.
        environment = {"TORCHDYNAMO_DISABLE": "1", **os.environ}
        if options.threads > 0:
            environment["OMP_NUM_THREADS"] = environment["MKL_NUM_THREADS"] = str(options.threads)
        # A thread that waits for the others by spinning takes the core that one of them needs, as soon as anything else
        # runs on the machine: training then takes a hundred times as long.
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        try:
            with without_stop_signals() as options_of_system:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=environment,
                    **options_of_system,
                )
        except OSError as error:
            raise WorkerError(f"cannot start a worker process: {process_remedy(error)}") from None
        self._errors = threading.Thread(target=self._read_errors, args=(log_path,), name="worker-log", daemon=True)
        self._reader = threading.Thread(target=self._read_replies, name="worker", daemon=True)
        self._errors.start()
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process seems alive; a death that is noticed later is reported for its jobs."""
        with self._lock:
            return not self._ended and self._process.poll() is None

    def send(self, request: Request, sink: WorkerSink) -> bool:
        """Submits a job; returns whether this process, or the report of its death, will answer it."""
        line = msgspec.json.encode(request) + b"\n"
        with self._lock:
            if self._retired:
                return False
            died = self._ended
            if not died:
                self._pending[request.id] = (request.job, sink)
        if died:
            sink(self._death(request.id, request.job))
            return True
        # If the process has just died, the thread that reads replies reports the job as lost.
        with contextlib.suppress(OSError, ValueError):
            pipe = _pipe(self._process.stdin)
            pipe.write(line)
            pipe.flush()
        return True

    def stop(self) -> None:
        with self._lock:
            self._stopping = True
            self._pending.clear()
        with contextlib.suppress(OSError):  # a line that does not get through any more
            _pipe(self._process.stdin).close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for thread in (self._reader, self._errors):
            if thread is not threading.current_thread():
                thread.join(_STOP_SECONDS)

    def _read_replies(self) -> None:
        decoder = msgspec.json.Decoder(Reply)
        with _pipe(self._process.stdout) as pipe:
            for line in pipe:
                try:
                    reply = decoder.decode(line)
                except msgspec.MsgspecError as error:
                    self._unreadable = " ".join(str(error).split())[:500]
                    self._process.kill()
                    break
                left: dict[int, tuple[AnyJob, WorkerSink]] = {}
                with self._lock:
                    _, sink = self._pending.pop(reply.id, (None, None))
                    if reply.last and not self._stopping:
                        self._retired = self._ended = self._stopping = True
                        left, self._pending = self._pending, {}
                if sink is not None:
                    sink(WorkerReply(reply.id, reply.result))
                if left:
                    self._take_over(left)
        self._process.wait()
        self._errors.join(_STOP_SECONDS)
        self._report_death()

    def _report_death(self) -> None:
        with self._lock:
            self._ended = True
            if self._stopping:
                return
            lost, self._pending = self._pending, {}
        for job_id, (job, sink) in lost.items():
            sink(self._death(job_id, job))
        if not lost and self._sink is not None:
            self._sink(self._death(None, None))

    def _read_errors(self, log_path: Path | None) -> None:
        with _pipe(self._process.stderr) as pipe:
            if log_path is None:
                for line in pipe:
                    self._tail.append(line.decode(errors="replace").rstrip())
                return
            with log_path.open("ab", buffering=0) as file:
                for line in pipe:
                    self._tail.append(line.decode(errors="replace").rstrip())
                    file.write(line)

    def _death(self, job_id: int | None, job: AnyJob | None) -> WorkerDied:
        code = self._process.wait()
        if self._unreadable:
            return WorkerDied(f"gave an unreadable reply ({self._unreadable})", job_id)
        if killed_for_memory(code):
            words = (
                _BEFORE_TRAINING if isinstance(job, Measure | Calibrate) else "give it more, or train a smaller depth"
            )
            return WorkerDied(f"was killed by the kernel, most likely for memory: {words}", job_id, memory=True)
        how, name = how_it_ended(code), signal_of(code)
        # Native code that gets no memory has no way but to abort.
        memory = any(words in line for line in self._tail for words in _TOO_LITTLE_MEMORY)
        if self._limits_memory and isinstance(job, Train) and name in _CRASHES_FOR_MEMORY:
            memory = True
        said = next((line.strip()[:500] for line in reversed(self._tail) if line.strip()), "")
        advice = f": {remedy}" if (remedy := loading_remedy(said)) else _advice(name, memory=memory)
        return WorkerDied(how + (f" ({said})" if said else "") + advice, job_id, memory, crashed=crashed(code))


_BEFORE_TRAINING = (
    "PyTorch takes some 230 MB before it trains (its CUDA build 530 MB: install the CPU build), and the data their "
    "own; allow more (MemoryMax= of a service, --memory of a container), or add swap"
)
"""What to do where there is too little memory for any training."""


def _advice(name: str, *, memory: bool) -> str:
    """Returns advice on a signal, for people; empty if there is none."""
    if name not in (ILLEGAL_INSTRUCTION, NO_ACCESS):
        return ""
    if memory:
        return ", most likely for memory: native code that gets none crashes; give it more, or train a smaller depth"
    torch, processor = f"PyTorch {torch_version() or '(none)'}", processor_name()
    if name == ILLEGAL_INSTRUCTION:
        return f": {torch} uses an instruction that this processor ({processor}) lacks; {install_hint()}"
    return f": native code crashed, {torch} on {processor}; if that happens again, {install_hint()}"


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise WorkerError("the worker process was started without pipes")
    return stream
