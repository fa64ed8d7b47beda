"""This module writes the lines of logs: escaped, to files that may be full, and as systemd's journal wants them."""

from __future__ import annotations

import logging
import logging.handlers
import os
import sys
from typing import Any

from fedlp_edge.system.printable import printable

_MAX_LINE_CHARACTERS = 8000

_PRIORITIES = ((logging.ERROR, "<3>"), (logging.WARNING, "<4>"), (logging.INFO, "<6>"))
"""The least level of a line with what its priority is called before it; what is less is ``<7>``."""


def is_journal(stream: Any) -> bool:
    """Returns whether a stream goes to the journal of systemd, as it says of the output of services.

    Args:
        stream: An open text stream, or anything else, which does not.
    """
    try:
        device, inode = map(int, os.environ["JOURNAL_STREAM"].split(":"))
        status = os.fstat(stream.fileno())
    except (KeyError, ValueError, OSError, AttributeError):  # no service, or no file
        return False
    return (status.st_dev, status.st_ino) == (device, inode)


def priority_mark(level: int) -> str:
    """Returns what stands before a line, from which the journal takes its priority (``journalctl -p warning``)."""
    return next((mark for least, mark in _PRIORITIES if level >= least), "<7>")


class PlainFormatter(logging.Formatter):
    """A log formatter that escapes control characters in every line."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Returns the formatted line, escaped."""
        record.message = printable(record.message, _MAX_LINE_CHARACTERS)
        return super().formatMessage(record)


class JournalFormatter(PlainFormatter):
    """A log formatter for the journal of systemd, which has the time of each line itself and takes its priority."""

    def __init__(self) -> None:
        super().__init__("%(levelname)-7s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line with its priority; the lines of a traceback have each the same."""
        mark = priority_mark(record.levelno)
        return "\n".join(mark + line for line in super().format(record).split("\n"))


def plain_log(form: str, times: str | None = None) -> None:
    """Gives every handler of the root logger a ``PlainFormatter``, or what its stream needs as the journal.

    Args:
        form: Form of a line.
        times: Form of the time in it.
    """
    for handler in logging.getLogger().handlers:
        journal = is_journal(getattr(handler, "stream", None))
        handler.setFormatter(JournalFormatter() if journal else PlainFormatter(form, times))


class LogFileHandler(logging.handlers.WatchedFileHandler):
    """A log handler that leaves out lines for which its disk has no room, and goes on where its file was taken away.

    Whatever else stands on the same disk fails with a line of its own, which names the file and the cause. The
    standard handler would print a traceback on the terminal for each line of the log. A file that logrotate or a person
    has renamed or removed is begun anew under its name; the standard handler would write on into the one that is gone.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a line, into a new file where the one that is open has lost its name."""
        try:
            super().emit(record)
        except OSError:  # of beginning a file anew
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Ignores that the line cannot be written; any other error is a defect, and is printed."""
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)
