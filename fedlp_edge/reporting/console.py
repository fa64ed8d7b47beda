"""This module opens the terminal console that every command writes to."""

from __future__ import annotations

from rich.console import Console, RenderableType

WIDE = 200
"""Columns that are wide enough for every table of this program."""

NARROWEST = 20
"""Columns below which a width is not believed: terminals of containers and of serial lines say 0 or 1."""


class PlainConsole(Console):
    """A console whose output may end (``| head``) like that of ``print``: by an error that the caller decides on."""

    def on_broken_pipe(self) -> None:
        """Raises the error again; ``rich`` would end the process, and with it a run that goes on without a reader.

        Raises:
            BrokenPipeError: Always; this is called while one is handled.
        """
        raise  # noqa: PLE0704 - the error that is being handled


def print_unwrapped(console: Console, renderable: RenderableType) -> None:
    """Prints a report whose tables are never cut: a narrow terminal breaks lines, which is better than an ellipsis."""
    before = console.width
    console.width = max(before, WIDE)
    try:
        console.print(renderable, crop=False)
    finally:
        console.width = before


def open_console(*, stderr: bool = False) -> Console:
    """Opens a console that prints strings literally: ``part[a].png`` or ``:ok:`` is no markup.

    Styles are given by ``rich.text.Text`` and by columns, never inside strings, since a string may hold a name from
    another machine.
    """
    console = PlainConsole(stderr=stderr, markup=False, emoji=False)
    if console.width < NARROWEST:
        console.width = 80
    return console
