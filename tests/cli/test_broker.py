from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys

import pytest


@pytest.mark.parametrize("kind", ["embedded", "mosquitto"])
def test_serves_until_it_is_told_to_stop(kind: str) -> None:
    broker = subprocess.Popen(
        [sys.executable, "-m", "fedlp_edge", "broker", "--kind", kind, "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert broker.stdout is not None
        line = broker.stdout.readline()
        match = re.fullmatch(r"listening on mqtt://127\.0\.0\.1:(\d+)\n", line)
        assert match is not None, line
        socket.create_connection(("127.0.0.1", int(match[1])), 5.0).close()

        broker.send_signal(signal.SIGTERM)

        assert broker.wait(timeout=60) == 0
    finally:
        broker.kill()
        broker.communicate()
