"""The option ``--version``."""

from __future__ import annotations

import typer
from typer.testing import CliRunner

from fedlp_edge import __version__
from fedlp_edge.cli.version import Version

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def command(needed: str, version: Version = False) -> None:
    """Needs an argument."""
    del version
    print(needed)


def test_version_is_printed_whatever_else_is_missing() -> None:
    told = CliRunner().invoke(app, ["--version"])
    assert (told.exit_code, told.stdout) == (0, f"fedlp-edge {__version__}\n")


def test_command_goes_its_way_without_the_option() -> None:
    told = CliRunner().invoke(app, ["there"])
    assert (told.exit_code, told.stdout) == (0, "there\n")
