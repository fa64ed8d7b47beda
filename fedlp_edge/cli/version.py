"""This module defines the options ``--version``, ``--help`` and ``-h`` of every command."""

from __future__ import annotations

from typing import Annotated

import typer

from fedlp_edge import __version__


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"fedlp-edge {__version__}")
        raise typer.Exit


HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}
"""Settings of a command, or of a group for all its commands, by which both names of the help are known."""

Version = Annotated[
    bool, typer.Option("--version", help="Print the version and end.", callback=_print_version, is_eager=True)
]
