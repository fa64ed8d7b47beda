from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from coordinator.command import app as coordinator
from coordinator.rollout.rollout_command import app as rollout
from device_agent.command import app as agent
from fedlp_edge import __version__
from fedlp_edge.cli.main import app
from tests.cli.conftest import Run


def test_prints_the_version(fedlp: Run) -> None:
    assert fedlp("version").stdout == f"fedlp-edge {__version__}\n"


def test_loads_nothing_heavy_to_show_its_help() -> None:
    program = (
        "import sys\nfrom typer.testing import CliRunner\nfrom fedlp_edge.cli.main import app\n"
        "assert 'demo' in CliRunner().invoke(app, ['--help']).output\n"
        "print(sorted({'torch', 'numpy', 'matplotlib', 'onnxruntime', 'paho'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_no_command_loads_torch_or_draws_before_it_is_asked_for_something() -> None:
    program = (
        "import importlib, pkgutil, sys\nimport fedlp_edge.cli\n"
        "for module in pkgutil.walk_packages(fedlp_edge.cli.__path__, 'fedlp_edge.cli.'):\n"
        "    importlib.import_module(module.name)\n"
        "print(sorted({'torch', 'matplotlib', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_ends_with_one_line_and_code_2_on_an_error(fedlp: Run, tmp_path: Path) -> None:
    done = fedlp("status", str(tmp_path / "none"))

    assert done.returncode == 2
    reason = f"neither summary.json nor events.jsonl): there is no {tmp_path / 'none'}"
    assert done.stderr == f"error: {tmp_path / 'none'} holds no run ({reason}\n"


def test_services_are_found_under_its_roof(fedlp: Run) -> None:
    assert "The fleet's TOML file" in fedlp("coordinator", "--help").stdout
    assert "--profile" in fedlp("agent", "--help").stdout
    assert fedlp("agent", "--nonsense").returncode == 2


def commands_below(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield words, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands_below(below, (*words, name))


@pytest.mark.parametrize("program", [app, coordinator, rollout, agent])
def test_help_shows_all_that_is_written_for_it(program: typer.Typer) -> None:
    """Brackets are no markup that vanishes (``[default: 10]``, ``[update] encoding``), and no sentence is cut off."""
    for words, command in commands_below(typer.main.get_command(program)):
        if command.add_help_option:
            shown = CliRunner().invoke(program, [*words, "--help"], terminal_width=80).output
            texts = [parameter.help for parameter in command.params]
            texts += [below.help.splitlines()[0] for below in getattr(command, "commands", {}).values()]
            assert [text for text in texts if "".join(text.split()) not in "".join(shown.split())] == []
