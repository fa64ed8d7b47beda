"""The terminal, as every command writes to it."""

from __future__ import annotations

from rich.console import Console


def open_console(*, stderr: bool = False) -> Console:
    """A console to which names are text: in ``part[a].png`` or ``:ok:`` nothing is markup.

    Styles are given by ``rich.text.Text`` and by columns, never inside strings, as any string may hold a name that
    somebody else chose.
    """
    return Console(stderr=stderr, markup=False, emoji=False)
