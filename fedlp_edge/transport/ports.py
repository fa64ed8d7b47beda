"""Free TCP ports for brokers that are started on the spot."""

from __future__ import annotations

import socket

ATTEMPTS = 5
"""Another process may take a free port before its broker does; then the next one is tried."""


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on at this moment."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def broker_url(host: str, port: int, *, tls: bool = False) -> str:
    """The URL of a broker."""
    return f"{'mqtts' if tls else 'mqtt'}://{f'[{host}]' if ':' in host else host}:{port}"
