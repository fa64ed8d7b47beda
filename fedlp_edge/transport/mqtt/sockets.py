"""This module opens the socket to a broker: TCP, then TLS and a WebSocket where the URL says so."""

from __future__ import annotations

import socket
import ssl

from fedlp_edge.transport.address import BrokerAddress
from fedlp_edge.transport.mqtt.websocket import WebSocket

AnySocket = socket.socket | WebSocket


def unread(wire: AnySocket) -> bool:
    """Returns whether bytes wait that were read from the network already, which a selector does not see."""
    return isinstance(wire, ssl.SSLSocket | WebSocket) and wire.pending() > 0


def open_socket(address: BrokerAddress, context: ssl.SSLContext | None, timeout: float) -> AnySocket:
    """Opens a blocking connection, with this timeout in seconds, on which MQTT can begin.

    Raises:
        OSError: The network or TLS failed, or the server has no WebSocket at the path.
        UnicodeError: The host name cannot be encoded.
    """
    plain = socket.create_connection((address.host, address.port), timeout)
    try:
        wire = plain if context is None else context.wrap_socket(plain, server_hostname=address.certified_name)
        if address.path is None:
            return wire
        tunnel = WebSocket(wire)
        tunnel.handshake(address.authority, address.path)
        return tunnel
    except BaseException:
        plain.close()
        raise
