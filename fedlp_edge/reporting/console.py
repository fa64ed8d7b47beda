"""The terminal, as every command writes to it."""

from __future__ import annotations

from rich.console import Console, RenderableType

WIDE = 200
"""Columns that no table of ours needs all of."""


def print_whole(console: Console, renderable: RenderableType) -> None:
    """Prints a report whose tables are never cut: a narrow terminal breaks lines, which is better than an ellipsis."""
    before = console.width
    console.width = max(before, WIDE)
    try:
        console.print(renderable, crop=False)
    finally:
        console.width = before


def open_console(*, stderr: bool = False) -> Console:
    """A console to which names are text: in ``part[a].png`` or ``:ok:`` nothing is markup.

    Styles are given by ``rich.text.Text`` and by columns, never inside strings, as any string may hold a name that
    somebody else chose.
    """
    return Console(stderr=stderr, markup=False, emoji=False)
