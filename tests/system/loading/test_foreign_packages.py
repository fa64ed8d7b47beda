"""Packages of another program, which PYTHONPATH puts before this one's: ROS and boards' vendors set it everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedlp_edge.system.loading.foreign_packages import end_with_cause

ENTRIES = {"fedlp": "fedlp_edge.cli.entry", "fedlp-coordinator": "coordinator.main", "fedlp-agent": "device_agent.main"}


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_packages_of_another_python_are_named_with_what_to_do(entry: str, tmp_path: Path) -> None:
    (tmp_path / "typer").mkdir()
    broken = tmp_path / "typer" / "__init__.py"
    broken.write_text("raise ImportError('C-extensions failed.\\n\\nA page of advice.')\n")
    code = f"from {entry} import run\nrun()"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment, timeout=60
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        f"error: {broken} cannot be loaded (ImportError: C-extensions failed.): PYTHONPATH puts packages of another "
        "program before this one's; start it without, as in: env -u PYTHONPATH -c\n"
    )


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    defect = ZeroDivisionError("of this program")
    with pytest.raises(ZeroDivisionError, match="of this program"):
        end_with_cause(defect)


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_package_that_cannot_be_loaded_is_one_line(entry: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "import sys, importlib.abc\n"
        "class Broken(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'typer':\n"
        "            raise ImportError('libx.so.1: cannot open shared object file', name='typer')\n"
        "sys.meta_path.insert(0, Broken())\n"
    )
    code = f"import sys; sys.path.append({str(tmp_path)!r}); import broken; from {entry} import run; run()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        "error: typer cannot be loaded (ImportError: libx.so.1: cannot open shared object file): install the package "
        "of the system that has libx.so.1\n"
    )
