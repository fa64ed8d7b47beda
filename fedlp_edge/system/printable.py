"""This module makes texts for people: those from other machines safe to print, and numbers with what they count.

A device's text may be printed in a log, in the live view, in ``fedlp status`` or in a report, and may hold terminal
control sequences. So it is escaped once, where it is decoded.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from fedlp_edge.system.log_file import is_journal, priority_mark

MAX_CHARACTERS = 2000
_MAX_LINE_CHARACTERS = 8000


def printable(text: str, most: int = MAX_CHARACTERS) -> str:
    """Returns the text with control, formatting and undefined characters escaped as ``\\x1b`` or ``\\u202e``.

    Args:
        text: Text from another machine.
        most: Largest number of characters; a longer text is cut and ends with three dots.
    """
    if len(text) > most:
        text = f"{text[: most - 3]}..."
    if text.isprintable():
        return text
    written = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return written if len(written) <= most else f"{written[: most - 3]}..."


def unprintable_fields(struct: Any, most: int = MAX_CHARACTERS) -> Iterator[tuple[str, str]]:
    """Yields name and escaped form of each text field of a struct that needs escaping."""
    for name in struct.__struct_fields__:
        value = getattr(struct, name)
        if isinstance(value, str) and (len(value) > most or not value.isprintable()):
            yield name, printable(value, most)


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


def counted(number: int, one: str, many: str = "") -> str:
    """Returns a number with what it counts: ``1 file``, ``1,024 files``.

    Args:
        number: How many there are.
        one: What it is if there is one.
        many: What it is otherwise; with an s by default.
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"
