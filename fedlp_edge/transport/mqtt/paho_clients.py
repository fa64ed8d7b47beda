"""This module makes paho clients as a fleet needs them: with a login and a last will, without paho's reconnecting."""

from __future__ import annotations

import contextlib
import secrets
import ssl
from functools import partial

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from fedlp_edge.transport.address import BrokerAddress
from fedlp_edge.transport.base import LastWill
from fedlp_edge.transport.mqtt.lean_client import LeanClient
from fedlp_edge.transport.mqtt.sockets import open_socket

CONNECT_SECONDS = 5.0
"""Seconds allowed for each stage of connecting: TCP, TLS, WebSocket."""

NAME_CHARACTERS = 100
"""Characters of a client id before its random suffix; hosted brokers allow 128 characters in total."""

SHORT_ID_CHARACTERS = 23
"""Characters of a client id that every broker must allow by MQTT 3.1.1, if they are letters and digits; the random
suffix of ``new_client_id`` has less."""


def new_client_id(*names: str) -> str:
    """Makes a client id that names its owner for people, and that nobody can guess.

    A broker disconnects a client when another one connects with the same id. So whoever knows a client's id could
    disconnect that client again and again.

    Args:
        names: Names from the most general to the most specific; if they are too long, the beginning is cut.
    """
    return f"{'-'.join(names)[-NAME_CHARACTERS:]}-{secrets.token_hex(10)}"


def short_client_id(client_id: str) -> str:
    """Returns the end of a client id, letters and digits alone, in a length that every broker must allow."""
    return "".join(filter(str.isalnum, client_id))[-SHORT_ID_CHARACTERS:]


def make_client(
    address: BrokerAddress,
    version: str,
    client_id: str,
    *,
    context: ssl.SSLContext | None,
    will: LastWill | None,
    manual_ack: bool = False,
    segment_bytes: int | None = None,
) -> LeanClient:
    """Makes a paho client that is not connected yet.

    Args:
        address: Address and login of the broker.
        version: MQTT version, ``"5"`` or ``"3.1.1"``.
        client_id: Client id, unique among the clients of the broker.
        context: TLS context; None without TLS.
        will: Last will; None for none.
        manual_ack: Whether the caller acknowledges received messages.
        segment_bytes: Longest TCP segments; None to leave them to the system.
    """
    protocol = MQTTProtocolVersion.MQTTv5 if version == "5" else MQTTProtocolVersion.MQTTv311
    client = LeanClient(
        CallbackAPIVersion.VERSION2, client_id, protocol=protocol, reconnect_on_failure=False, manual_ack=manual_ack
    )
    client.open = partial(open_socket, address, context, CONNECT_SECONDS, segment_bytes)
    if address.username is not None:
        client.username_pw_set(address.username, address.password)
    if will is not None:
        client.will_set(will.topic, will.payload, qos=1, retain=True)
    return client


def close_socket(client: paho.Client) -> None:
    """Closes a client's socket, if it has one, without a DISCONNECT."""
    with contextlib.suppress(OSError):
        if (wire := client.socket()) is not None:
            wire.close()
