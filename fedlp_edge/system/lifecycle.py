"""This module stops every command on a signal, and turns errors into messages and exit codes.

Services must stop cleanly on Ctrl-C and SIGTERM, and a fleet that one process started must not outlive that process. An
error that a user can fix must end in one line, never in a traceback.
"""

from __future__ import annotations

import codecs
import errno
import gc
import io
import logging
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal, Self

from fedlp_edge.errors import FedLPError
from fedlp_edge.system import early_interrupt
from fedlp_edge.system.loading.loading_errors import loading_failure
from fedlp_edge.system.log_file import is_journal, priority_mark
from fedlp_edge.system.portable.shell_words import quoted
from fedlp_edge.system.portable.stop_signals import STOP_SIGNALS, is_ignored
from fedlp_edge.system.portable.user_name import name_this_user

STOP_WITH_STDIN = "FEDLP_STOP_WITH_STDIN"
"""Environment variable; ``1`` makes a service stop when its standard input is closed."""

_THE_MACHINES_OWN = {
    errno.ENOSPC: "make room there, or choose another place",
    errno.EDQUOT: "make room there, or choose another place",
    errno.EROFS: "choose a place that can be written to",
    errno.EACCES: "give this user access, or choose another place",
    errno.EPERM: "give this user access, or choose another place",
    errno.EIO: "the disk or device that holds it may be failing (dmesg tells)",
    errno.ESTALE: "mount the share or disk that holds it again",
    errno.ENOTCONN: "mount the share or disk that holds it again",
    errno.EMFILE: "allow this process more open files (ulimit -n, LimitNOFILE= in a service)",
    errno.ENFILE: "the machine has too many open files",
    errno.ENOMEM: "the machine is out of memory",
}
"""Remedies by ``errno``, for errors of the operating system that are no defects of this program."""

_NO_THREAD = "can't start new thread"
_MORE_THREADS = "allow more processes and threads (ulimit -u, TasksMax= of a service, --pids-limit of a container)"
_OLD_DOCKER = (
    "Docker before 20.10.10 lets programs of newer images start none: update it, or --security-opt seccomp=unconfined"
)

EXIT_ERROR = early_interrupt.EXIT_ERROR
EXIT_STOPPED = early_interrupt.EXIT_STOPPED
EXIT_INCOMPLETE = 3
"""Exit code of a command that did only a part of its work, as its output says."""
EXIT_NO_COORDINATOR = 4
"""Exit code of an agent that nobody gave work for as long as it was to wait."""

StopReason = Literal["signal", "parent"]

_KILL_ME_FIRST = "900"  # of at most 1000


def remedy(error: OSError) -> str:
    """Returns what a person can do about an error of the operating system; empty if it may be a defect of ours."""
    return _THE_MACHINES_OWN.get(error.errno or 0, "")


def process_remedy(error: OSError) -> str:
    """Returns why a process could not be started, with what a person can do about it."""
    more = _MORE_THREADS if error.errno == errno.EAGAIN else remedy(error)
    return f"{error.strerror or error}{'; ' if more else ''}{more}"


@contextmanager
def output_may_end() -> Iterator[None]:
    """Lets a service go on whose output nobody takes any more: a closed terminal, ``| head``, a full disk.

    What is printed from then on is thrown away.
    """
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        if error.filename is not None:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def freeze_gc() -> None:
    """Exempts all present objects from garbage collection; called before a loop that runs for days.

    The imports leave some hundred thousand objects, which the collector would scan again and again; in a loop of small
    messages that takes a tenth of the time and more.
    """
    gc.collect()
    gc.freeze()


class InterruptedBySignalError(BaseException):
    """Raised by Ctrl-C before a ``StopSignal`` handles it; no library catches a ``BaseException`` of this type."""


class StopSignal:
    """An event that the first of the stop signals sets, and the end of standard input if the environment says so.

    A second signal ends the process at once. It is a context manager for the main thread, which restores the earlier
    signal handlers at its end.

    Args:
        on_stop: Callback, called once from its own thread, so that it may take locks (put on a queue).

    Attributes:
        reason: Reason of the stop; None while the event is not set.
    """

    def __init__(self, on_stop: Callable[[], None] | None = None) -> None:
        self.reason: StopReason | None = None
        self._on_stop = on_stop
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._signals = 0
        self._handlers: dict[signal.Signals, object] = {}
        self._writer: socket.socket | None = None
        self._woken_before = -1

    def is_set(self) -> bool:
        """Whether the process has been asked to stop."""
        return self._event.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits at most ``timeout`` seconds; returns whether the event is set."""
        return self._event.wait(timeout)

    def set(self, reason: StopReason = "signal") -> None:
        """Sets the event as a signal would; further calls do nothing."""
        with self._lock:
            if self._event.is_set():
                return
            self.reason = reason
            self._event.set()
        if self._on_stop is not None:
            self._on_stop()

    def __enter__(self) -> Self:
        # A Python signal handler runs between two bytecodes of the main thread, which may hold the lock that an event
        # or a queue needs, or may be about to wait, so that it never runs. So the interpreter itself writes the number
        # to a socket at once, and a thread does the rest.
        reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        threading.Thread(target=self._watch, args=(reader,), name="stop-signal", daemon=True).start()
        self._woken_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in STOP_SIGNALS:
            if not is_ignored(number):
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
            self._writer.close()  # ends the watching thread, which closes the other end
            self._writer = None

    def _watch(self, reader: socket.socket) -> None:
        with reader:
            while numbers := reader.recv(64):
                for number in numbers:
                    if number in STOP_SIGNALS:
                        self._signalled(number)

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
    """Does nothing; replaces the handlers that would end the process or raise KeyboardInterrupt."""
    del number, frame


def run_command(command: Callable[[], int | None]) -> int:
    """Runs a command's main function and returns the exit code of the process.

    This is the one place where errors become messages: a ``FedLPError``, a disk that is full or not writable, or an
    installed package that cannot be loaded gives one line on standard error and code 2; Ctrl-C gives one line and code
    130. Any other exception is a defect of this program and keeps its traceback.

    Example::

        def run() -> None:
            sys.exit(run_command(main))
    """
    before = _interruptible()
    open_standard_streams()
    print_every_character()
    name_this_user()
    try:
        return command() or 0
    except FedLPError as error:
        print_error(str(error))
        return EXIT_ERROR
    except (KeyboardInterrupt, InterruptedBySignalError):
        print("Stopped.", file=sys.stderr, flush=True)
        return EXIT_STOPPED
    except Exception as error:
        if isinstance(error, OSError) and _nobody_reads(error):
            # The reader of the output has ended (``| head``); without this, the interpreter prints an error at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        if not (text := _text_of(error)):
            raise
        print_error(text)
        return EXIT_ERROR
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


def _text_of(error: Exception) -> str:
    """Returns the message for what the system or an installed package refuses; empty for a defect of this program."""
    if isinstance(error, RuntimeError) and str(error) == _NO_THREAD:
        return f"the system starts no further thread for this program: {_MORE_THREADS}; {_OLD_DOCKER}"
    if "No usable temporary directory" in str(error):
        return "no directory for temporary files can be written to: name one with TMPDIR"
    if isinstance(error, OSError) and remedy(error):
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror}; {remedy(error)}"
    return loading_failure(error)


def _nobody_reads(error: OSError) -> bool:
    """Returns whether an error means that the reader of a pipe has ended, of which Windows says EINVAL."""
    return isinstance(error, BrokenPipeError) or (
        sys.platform == "win32" and error.errno == errno.EINVAL and error.filename is None
    )


def open_standard_streams() -> None:
    """Puts the null device where standard input, output or error is closed, as some service managers leave them.

    The next file that is opened would get its number, and whatever a library prints would end up in that file: in a
    run's journal, or on the connection to the broker.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, and so this one
            os.set_inheritable(number, True)
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


_DRAWN = dict(zip("▮▯▁▂▃▄▅▆▇█±²°·…", "#._.:-=+*#~2*-~", strict=True))


def _drawn_or_escaped(error: UnicodeError) -> tuple[str, int]:
    """Returns what stands for characters that an encoding lacks, as ``codecs`` asks for it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_DRAWN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking), error.end


codecs.register_error("drawn_or_escaped", _drawn_or_escaped)


def print_every_character() -> None:
    """Lets names print that the terminal's encoding lacks, or that are no text: each such character as an escape.

    What this program itself draws with, such as the bars of depths, has a plain sign in its place.

    The encoding is that of a locale such as ``POSIX`` or Latin-1, or ASCII where Python's UTF-8 mode is switched off.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # neither closed from the start, nor a test's
            stream.reconfigure(errors="drawn_or_escaped")


def _interruptible() -> Any:
    """Makes Ctrl-C raise ``InterruptedBySignalError``; returns the earlier handler, None outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGINT, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise InterruptedBySignalError


def raise_oom_score() -> None:
    """Makes the kernel kill this process, which trains, before its parent when memory runs out."""
    try:
        Path("/proc/self/oom_score_adj").write_text(_KILL_ME_FIRST, encoding="utf-8")
    except OSError:
        return  # Not Linux, or not allowed: the kernel then kills the largest process, which is this one too.


def print_error(message: str) -> None:
    """Writes ``error: MESSAGE`` to standard error, red on a terminal that wants colours, and as one to the journal."""
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    head = "\x1b[1;31merror:\x1b[0m" if colour else "error:"
    mark = priority_mark(logging.ERROR) if is_journal(sys.stderr) else ""
    print(f"{mark}{head} {message}", file=sys.stderr, flush=True)


def own_command(name: str = "fedlp") -> str:
    """Returns how to call a command of this package: by its name, or by its path if it is not on PATH."""
    beside = shutil.which(name, path=str(Path(sys.executable).parent))
    if shutil.which(name) or beside is None:
        return name
    try:
        return quoted(os.path.relpath(beside))
    except ValueError:  # it is on another drive
        return quoted(beside)
