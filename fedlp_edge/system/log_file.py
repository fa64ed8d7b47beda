"""This module writes a log file that a full disk does not turn into tracebacks."""

from __future__ import annotations

import logging
import sys


class LogFileHandler(logging.FileHandler):
    """A log handler that leaves out the lines which its file has no room for.

    Whatever else stands on the same disk fails with a line of its own, which names the file and the cause. The
    standard handler would print a traceback on the terminal for each line of the log.
    """

    def handleError(self, record: logging.LogRecord) -> None:
        """Ignores that the line cannot be written; any other error is a defect, and is printed."""
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)
