"""Words without an option, in commands that have options alone."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from coordinator.command import app as coordinator
from device_agent.command import app as agent


@pytest.mark.parametrize(
    ("command", "words", "advice"),
    [
        (coordinator, ["fleet.toml"], "'fleet.toml' stands there without an option: did you mean --config fleet.toml?"),
        (coordinator, ["--out", "a", "b.toml", "--quiet"], "did you mean --config b.toml?"),
        (coordinator, ["mqtt://home"], "'mqtt://home' stands there without an option: -h lists those that there are"),
        (agent, ["mqtt://home"], "did you mean --broker mqtt://home?"),
        (agent, ["--fleet", "shop", "agent.toml"], "did you mean --config agent.toml?"),
        (agent, ["shop"], "-h lists those that there are"),
    ],
)
def test_word_without_an_option_is_told_where_it_belongs(command: typer.Typer, words: list[str], advice: str) -> None:
    told = CliRunner().invoke(command, words)
    assert told.exit_code == 2
    assert told.stderr.rstrip().endswith(advice)


def test_help_comes_whatever_else_stands_there() -> None:
    told = CliRunner().invoke(coordinator, ["fleet.toml", "--help"])
    assert (told.exit_code, "--config" in told.stdout) == (0, True)


def test_unknown_option_is_told_as_before() -> None:
    told = CliRunner().invoke(coordinator, ["--confg", "fleet.toml"])
    assert told.exit_code == 2
    assert "No such option: --confg" in told.stderr
