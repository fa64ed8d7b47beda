"""This module runs a private Mosquitto process for the demo and for tests, with its own configuration and port.

The system's Mosquitto service is neither used nor touched. Limits are left at Mosquitto's defaults, because real
fleets meet the defaults.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from fedlp_edge.errors import OperatorError
from fedlp_edge.system.lifecycle import run_command
from fedlp_edge.transport.brokers.local_broker import arguments, serve
from fedlp_edge.transport.brokers.ports import ATTEMPTS, broker_url, check_free, free_port

START_SECONDS = 10.0
STOP_SECONDS = 5.0

# Debian, Homebrew and the installer for Windows put Mosquitto in directories that are not on every user's PATH.
_PLACES = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin", r"C:\Program Files\mosquitto")


def find_mosquitto() -> str:
    """Returns the path of the Mosquitto program.

    Raises:
        OperatorError: Mosquitto is not installed.
    """
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path=os.pathsep.join(_PLACES))
    if found is None:
        raise OperatorError("mosquitto is not installed; run: apt-get install mosquitto (or use the embedded broker)")
    return found


class MosquittoBroker:
    """One Mosquitto process; a context manager.

    Args:
        host: Address to listen on.
        port: TCP port; 0 for any free one, which the broker uses again when it is restarted.
        extra: Further lines of the configuration, behind those of the listener, so that ``cafile`` and similar keys
            apply to the listener.
        anonymous: Whether clients need no login.
    """

    def __init__(
        self, host: str = "127.0.0.1", port: int = 0, *, extra: Sequence[str] = (), anonymous: bool = True
    ) -> None:
        self.host = host
        self.port = port
        self._extra = tuple(extra)
        self._anonymous = anonymous
        self._process: subprocess.Popen[bytes] | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    @property
    def url(self) -> str:
        """The URL of the started broker."""
        tls = any(line.startswith("certfile ") for line in self._extra)
        return broker_url(self.host, self.port, tls=tls)

    @property
    def pid(self) -> int:
        """The process id; 0 if no process runs."""
        return 0 if self._process is None else self._process.pid

    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Starts the process and returns when clients can connect.

        Raises:
            OperatorError: Mosquitto is not installed, refuses its configuration, or the port is in use.
        """
        program = find_mosquitto()
        fixed = self.port != 0
        if fixed:
            check_free(self.host, self.port)
        for attempt in range(1 if fixed else ATTEMPTS):
            self.port = self.port if fixed else free_port(self.host)
            if self._launch(program):
                return
            complaint = self._complaint()
            self.kill()
            if fixed or "in use" not in complaint or attempt == ATTEMPTS - 1:
                raise OperatorError(f"mosquitto did not start on {self.host}:{self.port}: {complaint or 'no answer'}")

    def stop(self) -> None:
        """Ends the process cleanly; it disconnects its clients."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Kills the process with SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None

    def log(self) -> str:
        """Returns the log of the running process so far."""
        if self._directory is None:
            return ""
        return (Path(self._directory.name) / "log").read_text(encoding="utf-8", errors="replace")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _complaint(self) -> str:
        """Returns the errors in the log, or else its last two lines, without their time stamps."""
        lines = [line.partition(": ")[2] for line in self.log().splitlines()]
        errors = [line for line in lines if line.startswith("Error")]
        return " ".join(line for line in errors[-2:] or lines[-2:] if line)

    def _launch(self, program: str) -> bool:
        """Starts the process; returns False if it ended, or cannot be reached in time."""
        self._directory = tempfile.TemporaryDirectory(prefix="fedlp-mosquitto-", ignore_cleanup_errors=True)
        directory = Path(self._directory.name)
        lines = [
            "per_listener_settings false",
            f"listener {self.port} {self.host}",
            *self._extra,
            f"allow_anonymous {str(self._anonymous).lower()}",
            "persistence false",
            "log_dest stderr",
            # Started as root, Mosquitto would switch to another user, who cannot read our files. Any other user
            # need not be named, and has no name at all where a container runs under a number.
            *(["user root"] if hasattr(os, "getuid") and os.getuid() == 0 else []),
        ]
        config = directory / "mosquitto.conf"
        config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        with (directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [program, "-c", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        while self.alive() and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 1.0):
                # Another program may listen on this port, and our process be about to end because of that.
                return self.alive()
            time.sleep(0.01)
        return False


def main() -> int:
    """Runs ``python -m fedlp_edge.transport.brokers.mosquitto``."""
    options = arguments(
        "fedlp_edge.transport.brokers.mosquitto", "Run a private Mosquitto broker that lets everyone in."
    )
    return serve(MosquittoBroker(options.host, options.port))


if __name__ == "__main__":
    sys.exit(run_command(main))
