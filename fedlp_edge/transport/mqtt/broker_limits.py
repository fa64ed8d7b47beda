"""This module finds a broker's limits and MQTT version: announced, from its preset, configured, or measured."""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import replace

from fedlp_edge.transport.address import BrokerAddress
from fedlp_edge.transport.base import BrokerLimits
from fedlp_edge.transport.mqtt.sockets import open_socket

RECEIVE_MAXIMUM = 65535  # the default of MQTT 5 if the broker announces none

# The smallest CONNECT of MQTT 5: clean start, no client id, no login, no will.
_SMALLEST_CONNECT = bytes((0x10, 13, 0, 4)) + b"MQTT" + bytes((5, 2, 0, 10, 0, 0, 0))


def limits_of(
    address: BrokerAddress, version: str, max_packet_bytes: int | None, receive_maximum: int | None
) -> BrokerLimits:
    """Returns a broker's limits: the configured ones, else the announced ones, else those of its preset.

    Args:
        address: Address with the preset and the configured limits.
        version: MQTT version, ``"5"`` or ``"3.1.1"``.
        max_packet_bytes: Announced largest packet in bytes; None if the broker announced none.
        receive_maximum: Announced number of unacknowledged publishes; None if the broker announced none.
    """
    preset = address.preset
    # A broker disconnects a client that sends a larger packet than announced, so no configured limit may exceed that.
    if address.max_packet_bytes is not None:
        limits = [address.max_packet_bytes, max_packet_bytes]
    else:
        limits = [max_packet_bytes or preset.max_packet_bytes, preset.max_payload_bytes]
    queued = preset.max_queued_messages if address.max_queued_messages is None else address.max_queued_messages
    return BrokerLimits(
        protocol=version,
        max_packet_bytes=min((limit for limit in limits if limit is not None), default=None),
        receive_maximum=receive_maximum or preset.receive_maximum or RECEIVE_MAXIMUM,
        max_queued_messages=queued or None,
    )


def narrowed(limits: BrokerLimits, packet: int | None) -> BrokerLimits:
    """Returns the limits with packets of at most ``packet`` bytes; unchanged for None."""
    known = [limit for limit in (limits.max_packet_bytes, packet) if limit is not None]
    return replace(limits, max_packet_bytes=min(known, default=None))


def speaks_only_older(address: BrokerAddress, context: ssl.SSLContext | None, timeout: float = 3.0) -> bool:
    """Returns whether a broker answers the smallest MQTT 5 CONNECT in the format of MQTT 3.1.1.

    Some MQTT 3.1.1 brokers read the fields that MQTT 5 added as lengths and wait for ever for bytes that never come.
    The smallest CONNECT has no field that could be mistaken, so such a broker answers it.
    """
    try:
        with contextlib.closing(open_socket(address, context, timeout)) as wire:
            wire.sendall(_SMALLEST_CONNECT)
            answer = memoryview(bytearray(4))
            return answer[: wire.recv_into(answer)][:2] == bytes((0x20, 2))
    except OSError:
        return False
