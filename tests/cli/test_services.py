from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import fedlp_edge
from fedlp_edge.cli import services
from fedlp_edge.cli.services import run_service
from fedlp_edge.errors import OperatorError

REPOSITORY = Path(__file__).parents[2]


def test_says_that_a_service_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "_PACKAGES", {"fedlp-agent": "no_such_package"})
    with pytest.raises(OperatorError, match="fedlp-agent is not installed; install the whole fedlp-edge package"):
        run_service("fedlp-agent", [])


def test_starts_what_the_installed_commands_start() -> None:
    scripts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"]
    started = {name: f"{package}.main:run" for name, package in services._PACKAGES.items()}
    assert started == {name: start for name, start in scripts.items() if name != "fedlp"}
    assert all(callable(importlib.import_module(f"{package}.main").run) for package in services._PACKAGES.values())


@pytest.mark.parametrize("command", ["agent", "coordinator"])
def test_needs_no_metadata_of_an_installation(command: str, tmp_path: Path) -> None:
    start = (
        "import importlib.metadata as metadata, sys; metadata.entry_points = lambda **_: (); "
        "from fedlp_edge.cli.entry import run; run()"
    )
    words = [sys.executable, "-c", start, command, "--version"]
    told = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (told.stdout, told.stderr) == (f"fedlp-edge {fedlp_edge.__version__}\n", "")
