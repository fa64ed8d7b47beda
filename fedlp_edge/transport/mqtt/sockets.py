"""This module opens the socket to a broker: TCP, then TLS and a WebSocket where the URL says so."""

from __future__ import annotations

import socket
import ssl

from fedlp_edge.transport.address import BrokerAddress
from fedlp_edge.transport.mqtt.stalls import SEGMENT_BYTES
from fedlp_edge.transport.mqtt.websocket import WebSocket

_LONGEST_SEGMENT = getattr(socket, "TCP_MAXSEG", None)  # Windows does without

AnySocket = socket.socket | WebSocket


def unread(wire: AnySocket) -> bool:
    """Returns whether bytes wait that were read from the network already, which a selector does not see."""
    return isinstance(wire, ssl.SSLSocket | WebSocket) and wire.pending() > 0


def open_socket(
    address: BrokerAddress, context: ssl.SSLContext | None, timeout: float, segment_bytes: int | None = None
) -> AnySocket:
    """Opens a blocking connection, with this timeout in seconds, on which MQTT can begin.

    Args:
        address: Address of the broker.
        context: TLS context; None without TLS.
        timeout: Seconds for each stage.
        segment_bytes: Longest TCP segments in both directions; None to leave them to the system. Where the broker takes
            the connection and its certificates do not come, shorter ones are tried once (``stalls``).

    Raises:
        OSError: The network or TLS failed, or the server has no WebSocket at the path.
        UnicodeError: The host name cannot be encoded.
    """
    plain = _connected(address, timeout, segment_bytes)
    try:
        wire = plain if context is None else context.wrap_socket(plain, server_hostname=address.certified_name)
        if address.path is None:
            return wire
        tunnel = WebSocket(wire)
        tunnel.handshake(address.authority, address.path)
        return tunnel
    except TimeoutError:
        plain.close()
        if context is None or segment_bytes is not None:
            raise
        return open_socket(address, context, timeout, SEGMENT_BYTES[0])
    except BaseException:
        plain.close()
        raise


def _connected(address: BrokerAddress, timeout: float, segment_bytes: int | None) -> socket.socket:
    """Returns a TCP connection to the first of the host's addresses that takes one."""
    if segment_bytes is None or _LONGEST_SEGMENT is None:
        return socket.create_connection((address.host, address.port), timeout)
    failure = OSError(f"{address.host} has no address")
    for family, kind, protocol, _, place in socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM):
        plain = socket.socket(family, kind, protocol)
        try:
            plain.settimeout(timeout)
            # Before it connects, since the broker is told by the first packet.
            plain.setsockopt(socket.IPPROTO_TCP, _LONGEST_SEGMENT, segment_bytes)
            plain.connect(place)
        except OSError as error:
            plain.close()
            failure = error
        else:
            return plain
    raise failure
