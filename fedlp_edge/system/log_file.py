"""This module writes log files that a full disk does not turn into tracebacks, and knows the journal of systemd."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

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


class LogFileHandler(logging.FileHandler):
    """A log handler that leaves out the lines which its file has no room for.

    Whatever else stands on the same disk fails with a line of its own, which names the file and the cause. The
    standard handler would print a traceback on the terminal for each line of the log.
    """

    def handleError(self, record: logging.LogRecord) -> None:
        """Ignores that the line cannot be written; any other error is a defect, and is printed."""
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)
