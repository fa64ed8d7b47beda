"""This module lists the signals that ask a process to stop, and starts child processes that do not hear of them."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")

STOP_SIGNALS = tuple(signal.Signals[name] for name in _NAMES if name in signal.Signals.__members__)
"""A closed terminal and a lost SSH connection send SIGHUP, which ``nohup`` has ignored; a closed window of Windows, and
Ctrl-Break there, SIGBREAK."""


def is_ignored(number: signal.Signals) -> bool:
    """Returns whether whoever started this process wants it to go on after a signal, as ``nohup`` does."""
    return number.name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN


@contextmanager
def without_stop_signals() -> Iterator[dict[str, Any]]:
    """Keeps stop signals from processes started in this context: the parent alone hears of the end.

    Service managers (systemd), ``timeout`` and terminals tell all processes of a service at once. A child that ended by
    itself would look like one that failed, where the parent only stops. The parent ends it by closing its input, or by
    killing it.

    Yields:
        Further arguments for ``subprocess.Popen``.
    """
    if sys.platform == "win32":
        yield {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}  # which hears of no Ctrl-C
        return
    # The child inherits the signal mask; setting it in the child would come too late, after seconds of imports.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield {}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ask_to_end(process: subprocess.Popen[bytes]) -> None:
    """Asks a child to end that stops when its standard input ends, as ``FEDLP_STOP_WITH_STDIN=1`` makes it.

    Windows has no signal for that: ``terminate`` kills there.
    """
    if sys.platform != "win32":
        process.terminate()
    elif process.stdin is not None:
        process.stdin.close()
