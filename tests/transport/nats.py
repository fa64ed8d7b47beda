"""A private NATS server that speaks MQTT: a broker that is strict where Mosquitto is not."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from fedlp_edge.transport.brokers.ports import free_port

CONFIG = """
server_name: "fedlp"
listen: "127.0.0.1:{ports[0]}"
jetstream {{ store_dir: "{directory}/store" }}
mqtt {{ listen: "127.0.0.1:{ports[1]}" }}
websocket {{ listen: "127.0.0.1:{ports[2]}", {tls} }}
"""


class NatsBroker:
    """One process; a context manager.

    Args:
        certificate: with ``key``, of the WebSocket listener; plain if there is none.
        key: PEM file.
    """

    def __init__(self, certificate: Path | None = None, key: Path | None = None) -> None:
        self._tls = f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}' if certificate else "no_tls: true"
        self._scheme = "wss" if certificate else "ws"
        self._process: subprocess.Popen[bytes] | None = None
        self.ports: tuple[int, ...] = ()

    @property
    def url(self) -> str:
        """Where MQTT clients reach it."""
        return f"mqtt://127.0.0.1:{self.ports[1]}"

    @property
    def websocket_url(self) -> str:
        """Where they reach it over WebSockets."""
        return f"{self._scheme}://127.0.0.1:{self.ports[2]}/mqtt"

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="fedlp-nats-")
        directory = Path(self._directory.name)
        self.ports = tuple(free_port("127.0.0.1") for _ in range(3))
        config = directory / "nats.conf"
        config.write_text(CONFIG.format(ports=self.ports, directory=directory, tls=self._tls), encoding="utf-8")
        program = shutil.which("nats-server", path=os.pathsep.join((os.environ["PATH"], "/usr/sbin")))
        assert program is not None, "nats-server is not installed; .ci/system-packages installs it"
        with (directory / "log").open("wb") as log:
            self._process = subprocess.Popen([program, "-c", str(config)], stdout=log, stderr=log)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                for port in self.ports:
                    socket.create_connection(("127.0.0.1", port), 1.0).close()
                return self
            time.sleep(0.02)
        raise AssertionError((directory / "log").read_text())

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._directory.cleanup()
