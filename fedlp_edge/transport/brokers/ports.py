"""This module finds free TCP ports for local brokers."""

from __future__ import annotations

import socket
import sys

from fedlp_edge.errors import OperatorError

ATTEMPTS = 5
"""Attempts with another port, since another process may take a free port before the broker does."""


def free_port(host: str = "127.0.0.1") -> int:
    """Returns a port on which nothing listens at this moment."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def check_free(host: str, port: int) -> None:
    """Checks that nothing listens on a port, which would otherwise be taken for the broker that is started there.

    Raises:
        OperatorError: A program listens on the port, or this user may not use it.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            if sys.platform != "win32":  # where it would share the port with who listens there
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        raise OperatorError(
            f"cannot listen on {host}:{port}: {error.strerror}; is another broker running there? Choose another port"
        ) from None


def broker_url(host: str, port: int, *, tls: bool = False) -> str:
    """Returns the URL of a broker."""
    return f"{'mqtts' if tls else 'mqtt'}://{f'[{host}]' if ':' in host else host}:{port}"
