"""Ctrl-C while a command still loads its modules."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from fedlp_edge.system.early_interrupt import EXIT_STOPPED, end_at_once_on_interrupt
from fedlp_edge.system.lifecycle import EXIT_STOPPED as STOPPED_LATER

ENTRIES = {"fedlp": "fedlp_edge.cli.entry", "fedlp-coordinator": "coordinator.main", "fedlp-agent": "device_agent.main"}

INTERRUPTED = """
import os, signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
from {entry} import run
print("loaded", flush=True)
run()
"""


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
@pytest.mark.parametrize("module", ["typer", "fedlp_edge.system.lifecycle"])
def test_interrupt_while_a_command_is_loaded_ends_it_with_a_line(entry: str, module: str) -> None:
    code = INTERRUPTED.format(entry=entry, module=module)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (EXIT_STOPPED, "loaded\n", "Stopped.\n")


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_next_to_nothing_is_loaded_before_a_command_hears_an_interrupt(entry: str) -> None:
    code = f"import sys\nbefore = set(sys.modules)\nimport {entry}\nprint(*sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    packages = [entry.rpartition(".")[0], "fedlp_edge"]
    assert set(loaded) == {"__future__", entry, *packages, "fedlp_edge.system", "fedlp_edge.system.early_interrupt"}


def test_interrupt_ends_a_process_at_once_whatever_it_catches(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    child = os.fork()
    if not child:
        try:
            end_at_once_on_interrupt()
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == EXIT_STOPPED == STOPPED_LATER
    assert capfd.readouterr().err == "Stopped.\n"
    assert signal.getsignal(signal.SIGINT) == before
