"""Links of the kernel's own making, for measurements: a pair of virtual network devices, shaped by ``tc``.

Other than a proxy, they have queues that fill up and drop packets, acknowledgements that take room, and TCP from end to
end. Everything happens in a network of its own, which ends with the process: see ``apart``.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Self

CLONE_NEWNET = 0x40000000
QUEUE_MILLISECONDS = 1000
BURST_BYTES = 3000
_MARK = "FEDLP_BENCHMARK_APART"


def apart(module: str) -> None:
    """Goes on in a network and mounts of its own; starts ``module`` again for that, with the same arguments.

    Raises:
        SystemExit: that is not possible here.
    """
    if os.environ.get(_MARK):
        _run("mount", "-t", "tmpfs", "none", "/run")
        _run("ip", "link", "set", "lo", "up")
        return
    if os.getuid() or not all(map(shutil.which, ("unshare", "ip", "tc"))):
        raise SystemExit("network namespaces need root, unshare, ip and tc")
    os.environ[_MARK] = "1"
    os.execvp("unshare", ["unshare", "--net", "--mount", sys.executable, "-m", module, *sys.argv[1:]])


class ShapedLink:
    """A namespace behind a link; a context manager.

    Args:
        number: tells it from others, from 0 to 63.
        up: kbit/s from the namespace.
        down: kbit/s into it.
    """

    def __init__(self, number: int, *, up: float, down: float) -> None:
        self._name = f"dev{number}"
        self._here, self._there = f"here{number}", f"there{number}"
        self._network = f"10.77.{number}"
        self._rates = up, down

    @property
    def host(self) -> str:
        """Address of this end, as seen from within the namespace."""
        return f"{self._network}.1"

    def enter(self) -> None:
        """The calling thread, and those that it starts, are in the namespace from now on."""
        with Path(f"/run/netns/{self._name}").open() as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"cannot enter {self._name}")

    def carried(self) -> tuple[int, int]:
        """Bytes that have gone down and up, headers of all layers included."""
        shown = subprocess.run(
            ["ip", "-json", "-statistics", "link", "show", "dev", self._here], check=True, stdout=subprocess.PIPE
        )
        counters = json.loads(shown.stdout)[0]["stats64"]
        return counters["tx"]["bytes"], counters["rx"]["bytes"]

    def __enter__(self) -> Self:
        inside = ("ip", "netns", "exec", self._name)
        _run("ip", "netns", "add", self._name)
        _run("ip", "link", "add", "name", self._here, "type", "veth", "peer", "name", self._there)
        _run("ip", "link", "set", self._there, "netns", self._name)
        up, down = self._rates
        for before, device, address, rate in (((), self._here, 1, down), (inside, self._there, 2, up)):
            _run(*before, "ip", "addr", "add", f"{self._network}.{address}/30", "dev", device)
            _run(*before, "ip", "link", "set", device, "up")
            shape = ("rate", f"{rate:g}kbit", "burst", str(BURST_BYTES), "latency", f"{QUEUE_MILLISECONDS}ms")
            _run(*before, "tc", "qdisc", "add", "dev", device, "root", "tbf", *shape)
        return self

    def __exit__(self, *_: object) -> None:
        _run("ip", "netns", "delete", self._name)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
