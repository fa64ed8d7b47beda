"""How every command of the package begins to stop, and how it ends.

Services must stop cleanly on Ctrl-C and SIGTERM, and a fleet that one process started must not outlive
that process. Errors that somebody can mend must end in one line, never in a traceback.
"""

from __future__ import annotations

import errno
import gc
import os
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal, Self

from fedlp_edge.errors import FedLPError
from fedlp_edge.system import early_interrupt

STOP_WITH_STDIN = "FEDLP_STOP_WITH_STDIN"
"""Environment variable; ``1`` makes a service stop when its standard input is closed."""

_THE_MACHINES_OWN = {
    errno.ENOSPC: "make room there, or choose another place",
    errno.EDQUOT: "make room there, or choose another place",
    errno.EROFS: "choose a place that can be written to",
    errno.EACCES: "give this user access, or choose another place",
    errno.EPERM: "give this user access, or choose another place",
    errno.EIO: "the disk may be failing",
}
"""What an operating system refuses to whoever asks, and what to do; it is no defect of ours."""

EXIT_ERROR = 2
EXIT_STOPPED = early_interrupt.EXIT_STOPPED
EXIT_INCOMPLETE = 3
"""It is done, but not all of it: somebody should read what was said."""

StopReason = Literal["signal", "parent"]

_KILL_ME_FIRST = "900"  # of at most 1000

_STOPPING = (signal.SIGINT, signal.SIGTERM)


def settle() -> None:
    """To be called when everything that stays has been made, before a loop that runs for days.

    What the imports have left is some hundred thousand objects, which the garbage collector would look through again
    and again; in a loop of small messages that takes a tenth of the time and more.
    """
    gc.collect()
    gc.freeze()


class InterruptedBySignalError(BaseException):
    """Ctrl-C before a command listens to it by a ``StopSignal``; no library takes it for its own business."""


class StopSignal:
    """Set by the first SIGINT or SIGTERM, or by the end of standard input if the environment says so.

    A second signal ends the process at once. Use it as a context manager in the main thread; on leaving,
    the earlier signal handlers are back.

    Args:
        on_stop: called once, from a thread of its own, so it may take locks (put on a queue).

    Attributes:
        reason: what stopped it; None as long as it is not set.
    """

    def __init__(self, on_stop: Callable[[], None] | None = None) -> None:
        self.reason: StopReason | None = None
        self._on_stop = on_stop
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._signals = 0
        self._handlers: dict[signal.Signals, object] = {}
        self._writer: int | None = None
        self._woken_before = -1

    def is_set(self) -> bool:
        """Whether the process has been asked to stop."""
        return self._event.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits at most ``timeout`` seconds; True once it is set."""
        return self._event.wait(timeout)

    def set(self, reason: StopReason = "signal") -> None:
        """Stops as a signal would; further calls do nothing."""
        with self._lock:
            if self._event.is_set():
                return
            self.reason = reason
            self._event.set()
        if self._on_stop is not None:
            self._on_stop()

    def __enter__(self) -> Self:
        # A handler in Python runs between two bytecodes of the main thread, which may hold the very lock that an event
        # or a queue needs, or may just have begun to wait for one and then never gets there. So the interpreter
        # itself writes the number to a pipe, the moment that it comes, and a thread does the rest.
        reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        threading.Thread(target=self._watch_pipe, args=(reader,), name="stop-signal", daemon=True).start()
        self._woken_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in _STOPPING:
            self._handlers[number] = signal.signal(number, _leave_it_to_the_thread)
        if os.environ.get(STOP_WITH_STDIN) == "1":
            threading.Thread(target=self._watch_stdin, name="stop-with-stdin", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._handlers.clear()
        if self._writer is not None:
            signal.set_wakeup_fd(self._woken_before)
            os.close(self._writer)  # ends the watching thread, which closes the other end
            self._writer = None

    def _watch_pipe(self, reader: int) -> None:
        while numbers := os.read(reader, 64):
            for number in numbers:
                if number in _STOPPING:
                    self._signalled(number)
        os.close(reader)

    def _signalled(self, number: int) -> None:
        self._signals += 1
        if self._signals > 1:
            os._exit(128 + number)
        self.set("signal")

    def _watch_stdin(self) -> None:
        try:
            while os.read(0, 4096):
                pass
        except OSError:  # no standard input at all counts as closed
            pass
        self.set("parent")


def _leave_it_to_the_thread(number: int, frame: FrameType | None) -> None:
    """In place of the handlers that would end the process or raise KeyboardInterrupt."""
    del number, frame


def run_command(command: Callable[[], int | None]) -> int:
    """Runs a command's main function and returns the exit code of the process.

    The one place where errors become words: a ``FedLPError``, or a disk that is full or may not be written to, is one
    line on standard error and code 2; Ctrl-C is one line and code 130. Anything else is a defect of ours and keeps its
    traceback.

    Example::

        def run() -> None:
            sys.exit(run_command(main))
    """
    before = _interruptible()
    try:
        return command() or 0
    except FedLPError as error:
        print_error(str(error))
        return EXIT_ERROR
    except (KeyboardInterrupt, InterruptedBySignalError):
        print("Stopped.", file=sys.stderr, flush=True)
        return EXIT_STOPPED
    except BrokenPipeError:
        # The reader of our output is gone (``| head``); keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in _THE_MACHINES_OWN:
            raise
        where = f"{error.filename}: " if error.filename is not None else ""
        print_error(f"{where}{error.strerror}; {_THE_MACHINES_OWN[error.errno]}")
        return EXIT_ERROR
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


@contextmanager
def unheard_interrupts() -> Iterator[None]:
    """A process that is started within this never hears Ctrl-C: its parent, which does, says what happens then.

    The child inherits the mask of signals; its own first line would come too late, after seconds of imports.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _interruptible() -> Any:
    """Lets Ctrl-C raise ``InterruptedBySignalError`` from here on; returns the handler before, None outside the main
    thread."""
    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGINT, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise InterruptedBySignalError


def be_killed_first() -> None:
    """Out of memory, the kernel shall kill this process, which trains, and not the one that started it."""
    try:
        Path("/proc/self/oom_score_adj").write_text(_KILL_ME_FIRST)
    except OSError:
        return  # Not Linux, or not allowed: the kernel then decides by size, which says the same.


def print_error(message: str) -> None:
    """Writes ``error: MESSAGE`` to standard error, red on a terminal that wants colours."""
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    head = "\x1b[1;31merror:\x1b[0m" if colour else "error:"
    print(f"{head} {message}", file=sys.stderr, flush=True)


def own_command(name: str = "fedlp") -> str:
    """How the reader can call one of our commands: by its name, or by its path where it is not on PATH."""
    beside = Path(sys.executable).with_name(name)
    if shutil.which(name) or not beside.exists():
        return name
    return shlex.quote(os.path.relpath(beside))
