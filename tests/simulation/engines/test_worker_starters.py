from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from fedlp_edge.simulation.engines import worker_starters
from fedlp_edge.simulation.engines.worker_starters import ForkingStarter, SpawningStarter, worker_starter

WORKER = """
import socket, sys
with socket.socket(fileno=int(sys.argv[1])) as end:
    end.sendall(b"here")
    sys.stdin.read()
sys.exit(7)
"""


@pytest.fixture
def starter(monkeypatch: pytest.MonkeyPatch) -> Iterator[SpawningStarter]:
    """A starter whose workers say that they are there, and load no torch."""

    def python(module: str, *arguments: str, stdin: int, passed: socket.socket) -> subprocess.Popen[bytes]:
        assert module == "spawned_worker"
        return subprocess.Popen([sys.executable, "-c", WORKER, *arguments], stdin=stdin, pass_fds=[passed.fileno()])

    monkeypatch.setattr(worker_starters, "_python", python)
    made = SpawningStarter()
    yield made
    made.close()


def test_every_worker_is_a_program_that_ends_with_its_input(starter: SpawningStarter) -> None:
    with starter.start(0) as first, starter.start(1) as second:
        assert (first.recv(9), second.recv(9)) == (b"here", b"here")
        assert starter.exit_code(1) == 7
        assert second.recv(9) == b""
        with starter.start(1) as third:
            assert third.recv(9) == b"here"
            starter.close()
            assert (first.recv(9), third.recv(9)) == (b"", b"")


def test_nothing_is_left_open_that_python_would_warn_of(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "always::ResourceWarning")
    starter = ForkingStarter()
    starter.start(0).close()
    assert starter.exit_code(0) == 0
    starter.close()
    assert "ResourceWarning" not in capfd.readouterr().err


def test_linux_forks_and_macos_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ForkingStarter, "__init__", lambda self: None)
    assert isinstance(worker_starter(), ForkingStarter)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert isinstance(worker_starter(), SpawningStarter)
