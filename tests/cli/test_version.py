"""The options ``--version`` and ``-h``."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from coordinator.command import app as coordinator
from coordinator.rollout.rollout_command import app as deploy
from device_agent.command import app as agent
from fedlp_edge import __version__
from fedlp_edge.cli.main import app as fedlp
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


@pytest.mark.parametrize(
    ("command", "words"),
    [(coordinator, []), (deploy, []), (agent, []), (fedlp, []), (fedlp, ["plan"]), (fedlp, ["doctor", "broker"])],
)
def test_help_is_printed_for_its_short_name(command: typer.Typer, words: list[str]) -> None:
    told = CliRunner().invoke(command, [*words, "-h"])
    assert told.exit_code == 0
    assert "--help" in told.stdout
