from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import SERVER

Run = Callable[..., "subprocess.CompletedProcess[str]"]

DEMO = ("--partition", "dirichlet:0.3", "--scheme", "both", "--lpr", "0.7")
"""Options of the finished demo but the number of its rounds; it has five devices."""


@pytest.fixture(scope="session")
def fedlp() -> Run:
    """Runs ``fedlp`` as a user would, in a process of its own."""

    def run(*arguments: object, timeout: float = 240.0, real_start: bool = False) -> subprocess.CompletedProcess[str]:
        # Wide tables, no colours: what a log would get.
        environment = {**os.environ, "COLUMNS": "160", "NO_COLOR": "1"}
        if real_start:
            environment.pop(SERVER, None)
        return subprocess.run(
            [sys.executable, "-m", "fedlp_edge", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env=environment,
        )

    return run


@pytest.fixture(scope="session")
def finished_demo(fedlp: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run directory and output of a short demo of five unequal shares, from start to end."""
    directory = tmp_path_factory.mktemp("demo") / "run"
    done = fedlp("demo", "--out", directory, "--rounds", 2, *DEMO, real_start=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return directory, done.stdout
