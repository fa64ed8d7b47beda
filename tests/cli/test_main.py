from __future__ import annotations

import subprocess
import sys

from fedlp_edge import __version__
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


def test_ends_with_one_line_and_code_2_on_an_error(fedlp: Run) -> None:
    done = fedlp("status", "/nonexistent")

    assert done.returncode == 2
    assert done.stderr == "error: /nonexistent holds no run (neither summary.json nor events.jsonl)\n"


def test_services_are_found_under_its_roof(fedlp: Run) -> None:
    assert "The fleet's TOML file" in fedlp("coordinator", "--help").stdout
    assert "--profile" in fedlp("agent", "--help").stdout
    assert fedlp("agent", "--nonsense").returncode == 2
