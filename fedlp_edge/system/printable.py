"""This module makes texts for people: those from other machines safe to print, and numbers with what they count.

A device's text may be printed in a log, in the live view, in ``fedlp status`` or in a report, and may hold terminal
control sequences. So it is escaped once, where it is decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MAX_CHARACTERS = 2000


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


def counted(number: int, one: str, many: str = "") -> str:
    """Returns a number with what it counts: ``1 file``, ``1,024 files``.

    Args:
        number: How many there are.
        one: What it is if there is one.
        many: What it is otherwise; with an s by default.
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"
