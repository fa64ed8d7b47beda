"""The brokers that the demo and the tests start: as objects and as processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

from fedlp_edge.errors import OperatorError
from fedlp_edge.transport.brokers.embedded import EmbeddedBroker
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker

from .clients import connected

MODULES = ["fedlp_edge.transport.brokers.embedded", "fedlp_edge.transport.brokers.mosquitto"]
BROKERS = [EmbeddedBroker, MosquittoBroker]


def launch(module: str, *arguments: str, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environ,
    )


@pytest.mark.parametrize("module", MODULES)
def test_process_says_where_it_listens_and_ends_on_sigterm(module: str) -> None:
    with launch(module, "--port", "0") as process:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        with connected(words[-1], "visitor") as client:
            client.subscribe("x")
        process.send_signal(signal.SIGTERM)

        assert process.wait(60) == 0
        assert words[:2] == ["listening", "on"]
        assert words[-1].startswith("mqtt://127.0.0.1:")


@pytest.mark.parametrize("module", MODULES)
def test_process_ends_with_its_parent(module: str) -> None:
    with launch(module, "--port", "0", FEDLP_STOP_WITH_STDIN="1") as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        process.stdin.close()

        assert process.wait(60) == 0


@pytest.mark.parametrize("module", MODULES)
def test_process_says_in_one_line_that_a_port_is_taken(module: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        process = launch(module, "--port", port)
        _, errors = process.communicate(timeout=60)

    assert process.returncode == 2
    assert errors.startswith("error: ")
    assert port in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize("start", BROKERS)
def test_broker_is_gone_after_the_block(start: Callable[[], EmbeddedBroker | MosquittoBroker]) -> None:
    with start() as broker:
        assert broker.alive()
        socket.create_connection(("127.0.0.1", broker.port), 5).close()

    assert not broker.alive()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", broker.port), 5)


@pytest.mark.parametrize("kind", BROKERS)
def test_does_not_take_another_listener_for_itself(kind: Callable[..., EmbeddedBroker]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OperatorError, match=f"cannot listen on 127.0.0.1:{port}"):
            kind("127.0.0.1", port).start()
