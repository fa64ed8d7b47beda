"""paho clients as a fleet needs them: no reconnecting of their own, a login, and what is said if they vanish."""

from __future__ import annotations

import contextlib
import secrets
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from fedlp_edge.transport.address import BrokerAddress
from fedlp_edge.transport.base import LastWill
from fedlp_edge.transport.mqtt.sockets import Wire, open_wire

CONNECT_SECONDS = 5.0
"""For each step of connecting: TCP, TLS, WebSocket."""

NAME_CHARACTERS = 100
"""Of a client id, before its random end: hosted brokers take 128 characters altogether."""


def new_client_id(*names: str) -> str:
    """A client id that says for people whose it is, and that nobody can guess.

    A broker ends the connection of whoever has the id with which somebody else connects. An id that others know is
    theirs to throw off, again and again.

    Args:
        names: from the widest to the narrowest; what is too long loses its beginning.
    """
    return f"{'-'.join(names)[-NAME_CHARACTERS:]}-{secrets.token_hex(10)}"


class _Client(paho.Client):
    """paho's client on a connection that it need not open.

    Attributes:
        open: opens it.
    """

    open: Callable[[], Wire]

    def _create_socket(self) -> Any:
        return self.open()


def make_client(
    address: BrokerAddress,
    version: str,
    client_id: str,
    *,
    context: ssl.SSLContext | None,
    will: LastWill | None,
    manual_ack: bool = False,
) -> paho.Client:
    """A client that is not connected yet.

    Args:
        address: of the broker, with the login.
        version: of MQTT, ``"5"`` or ``"3.1.1"``.
        client_id: must differ between all clients of the broker.
        context: for TLS.
        will: left with the broker.
        manual_ack: whether the caller acknowledges what arrives.
    """
    protocol = MQTTProtocolVersion.MQTTv5 if version == "5" else MQTTProtocolVersion.MQTTv311
    client = _Client(
        CallbackAPIVersion.VERSION2, client_id, protocol=protocol, reconnect_on_failure=False, manual_ack=manual_ack
    )
    client.open = partial(open_wire, address, context, CONNECT_SECONDS)
    if address.username is not None:
        client.username_pw_set(address.username, address.password)
    if will is not None:
        client.will_set(will.topic, will.payload, qos=1, retain=True)
    return client


def let_go(client: paho.Client) -> None:
    """Closes a client's socket, if it has one, without a goodbye."""
    with contextlib.suppress(OSError):
        if (wire := client.socket()) is not None:
            wire.close()
