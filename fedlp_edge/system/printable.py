"""Words of others, made fit to be printed: what controls a terminal is written out, what is too long is cut.

Whatever a device says may end in a log, in the live view, in ``fedlp status`` or in a report, and may be meant to do
more there than to be read. It is made harmless once, where it is decoded.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

MOST_CHARACTERS = 2000
_MOST_OF_A_LINE = 8000


def printable(text: str, most: int = MOST_CHARACTERS) -> str:
    """The text with control, formatting and undefined characters as ``\\x1b`` or ``\\u202e``, and an end.

    Args:
        text: of whoever.
        most: characters; what is longer ends with three dots.
    """
    if len(text) > most:
        text = f"{text[: most - 3]}..."
    if text.isprintable():
        return text
    written = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return written if len(written) <= most else f"{written[: most - 3]}..."


def unprintable_fields(struct: Any, most: int = MOST_CHARACTERS) -> Iterator[tuple[str, str]]:
    """Name and harmless form of each text of a struct that is not harmless as it is."""
    for name in struct.__struct_fields__:
        value = getattr(struct, name)
        if isinstance(value, str) and (better := printable(value, most)) != value:
            yield name, better


class PlainFormatter(logging.Formatter):
    """Lines of a log in which nobody else's words can do anything but be read."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``."""
        record.message = printable(record.message, _MOST_OF_A_LINE)
        return super().formatMessage(record)


def plain_log(form: str, times: str | None = None) -> None:
    """Gives every handler of the process's log such lines."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(PlainFormatter(form, times))
