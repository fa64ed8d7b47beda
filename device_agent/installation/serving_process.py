"""The process that answers requests with the installed model: started, watched, and started again when it ends.

It follows ``current.onnx`` by itself, so a switch to another model needs nothing of the agent.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

import msgspec

from device_agent.limits import LIMITS
from device_agent.protocol.events import ServingReported
from fedlp_edge.serving.serving_options import OPTIONS_VARIABLE, ServingLine, ServingOptions
from fedlp_edge.system.lifecycle import STOP_WITH_STDIN
from fedlp_edge.system.portable.stop_signals import without_stop_signals

log = logging.getLogger(__name__)
_LIMITS = LIMITS.serving


class ServingProcess:
    """A process that serves a model once there is one; it does nothing before the first ``poll``.

    Args:
        options: What is served, and where.
        sink: Function that takes the reports; called from a thread.
        clock: Returns monotonic seconds.
    """

    def __init__(
        self, options: ServingOptions, sink: Callable[[ServingReported], None], clock: Callable[[], float]
    ) -> None:
        self._options = options
        self._sink = sink
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._look_at = clock()
        self._patience = _LIMITS.restart_seconds
        self._started_at = 0.0
        self._said: list[str] = []
        self._started = False
        self._ends = 0

    @property
    def ends(self) -> int:
        """Number of times that the process has ended by itself."""
        return self._ends

    @property
    def answering(self) -> bool:
        """Whether the process runs and has said that it answers."""
        return self._started and self._process is not None and self._process.poll() is None

    def next_wakeup(self) -> float:
        """When to poll again."""
        return self._look_at

    def poll(self) -> None:
        """Starts the process if there is a model, and starts it again, later each time, if it has ended."""
        now = self._clock()
        if now < self._look_at:
            return
        self._look_at = now + _LIMITS.look_seconds
        if self._process is not None and self._process.poll() is not None:
            self._ended(self._process.returncode, now)
        elif self._process is None and Path(self._options.model).exists():
            self._start(now)

    def stop(self) -> None:
        """Ends the process, if there is one, once it has answered what it was asked."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]  # it is a pipe
        try:
            process.wait(_LIMITS.stop_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _start(self, now: float) -> None:
        environment = {
            **os.environ,
            OPTIONS_VARIABLE: msgspec.json.encode(self._options).decode(),
            STOP_WITH_STDIN: "1",
        }
        self._said = []
        self._started = False
        self._started_at = now
        with without_stop_signals() as options:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "fedlp_edge.serving.serving_loop"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                **options,
            )
        for stream, read in ((self._process.stdout, self._read_lines), (self._process.stderr, self._read_errors)):
            threading.Thread(target=read, args=(stream,), name="serving", daemon=True).start()

    def _ended(self, code: int, now: float) -> None:
        self._process = None
        self._ends += 1
        if now - self._started_at >= _LIMITS.restart_longest_seconds:
            self._patience = _LIMITS.restart_seconds  # it has worked for a while
        self._look_at = now + self._patience
        said = f": {self._said[-1]}" if self._said else f" with exit code {code}"
        log.warning("the model is not served%s; trying again in %.0f s", said, self._patience)
        self._patience = min(2 * self._patience, _LIMITS.restart_longest_seconds)

    def _read_lines(self, stream: IO[bytes]) -> None:
        for text in stream:
            with contextlib.suppress(msgspec.DecodeError):
                line = msgspec.json.decode(text, type=ServingLine)
                if line.started:
                    self._started = True
                    ways = [line.url] if line.url else []
                    ways += [f"MQTT below {self._options.topic}"] if self._options.broker is not None else []
                    log.info("the installed model answers requests on %s", " and ".join(ways))
                if line.report is not None:
                    self._sink(ServingReported(line.report))

    def _read_errors(self, stream: IO[bytes]) -> None:
        for text in stream:
            line = text.decode("utf-8", "replace").strip()
            if line:
                self._said = [*self._said[-1:], line.removeprefix("error: ")[:300]]
                log.debug("serving: %s", line)
