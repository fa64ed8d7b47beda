"""This module says how a process ended, by its exit code as ``subprocess`` gives it.

A signal is a negative code. Windows has none: there a crash is a status of the kernel, as an unsigned number.
"""

from __future__ import annotations

import signal

ILLEGAL_INSTRUCTION, NO_ACCESS = "SIGILL", "SIGSEGV"
"""Names of the two crashes that tell most of their cause, on every system."""

_STATUSES = {
    0xC0000005: NO_ACCESS,
    0xC0000006: "SIGBUS",
    0xC000001D: ILLEGAL_INSTRUCTION,
    0xC0000094: "SIGFPE",
    0xC00000FD: NO_ACCESS,  # the stack is full
    0xC0000374: "SIGABRT",  # the heap is damaged
    0xC0000409: "SIGABRT",
}
"""What Linux would have sent, by statuses of Windows."""

_OUT_OF_MEMORY = frozenset({0xC0000017, 0xC000012D})
"""Statuses of Windows that mean that memory ran out, or the room for it in the page file."""

_CRASHES = frozenset({"SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE"})


def signal_of(code: int) -> str:
    """Returns the name of the signal that ended a process, or of the one that Linux would have sent; else nothing.

    >>> signal_of(-9), signal_of(0xC0000005), signal_of(1)
    ('SIGKILL', 'SIGSEGV', '')
    """
    if code >= 0:
        return _STATUSES.get(code, "")
    try:
        return signal.Signals(-code).name
    except ValueError:  # a signal of real-time programs
        return f"signal {-code}"


def killed_for_memory(code: int) -> bool:
    """Returns whether the system itself ended a process, for which a lack of memory is the usual reason."""
    return signal_of(code) == "SIGKILL" or code in _OUT_OF_MEMORY


def crashed(code: int) -> bool:
    """Returns whether native code in a process crashed."""
    return signal_of(code) in _CRASHES


def how_it_ended(code: int) -> str:
    """Returns words that follow the name of a process.

    >>> how_it_ended(-11), how_it_ended(2)
    ('was ended by SIGSEGV', 'ended with exit code 2')
    """
    name = signal_of(code)
    return f"was ended by {name}" if name else f"ended with exit code {code}"
