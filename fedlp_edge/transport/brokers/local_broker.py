"""This module runs a local broker as a process, which prints its URL and ends on a signal or with its parent."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Protocol, Self

from fedlp_edge.errors import BrokerError
from fedlp_edge.system.lifecycle import StopSignal


class LocalBroker(Protocol):
    """The interface of a broker that this process runs; a context manager."""

    @property
    def url(self) -> str:
        """The URL of the broker."""

    def alive(self) -> bool:
        """Whether the broker still runs."""

    def __enter__(self) -> Self:
        """Starts the broker, which accepts connections from here on."""

    def __exit__(self, *exception: object) -> None:
        """Ends the broker."""


def serve(broker: LocalBroker) -> int:
    """Runs a broker until SIGINT, SIGTERM or, if the environment asks for it, the end of standard input.

    Prints ``listening on URL`` once clients can connect.

    Raises:
        BrokerError: The broker ended by itself.
    """
    with StopSignal() as stop, broker:
        print(f"listening on {broker.url}", flush=True)
        while not stop.wait(0.5):
            if not broker.alive():
                raise BrokerError(f"the broker at {broker.url} ended unexpectedly")
    return 0


def arguments(program: str, description: str, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line that all local brokers share: ``--host`` and ``--port``."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=description)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    parser.add_argument("--port", type=int, default=1883, help="TCP port; 0 for any free one (default: 1883)")
    return parser.parse_args(argv)
