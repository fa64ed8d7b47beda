"""What a broker allows and which version it speaks: announced, known from its kind, configured, or tried out."""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import replace

from fedlp_edge.transport.address import BrokerAddress
from fedlp_edge.transport.base import BrokerLimits
from fedlp_edge.transport.mqtt.sockets import open_wire

RECEIVE_MAXIMUM = 65535  # what MQTT 5 means by saying nothing

# The smallest CONNECT of MQTT 5: clean start, no client id, no login, no will.
_SMALLEST_CONNECT = bytes((0x10, 13, 0, 4)) + b"MQTT" + bytes((5, 2, 0, 10, 0, 0, 0))


def limits_of(
    address: BrokerAddress, version: str, max_packet_bytes: int | None, receive_maximum: int | None
) -> BrokerLimits:
    """What a broker allows: what it announced, else its preset, with what the configuration names in place of either.

    Args:
        address: with the preset and the configured limits.
        version: of MQTT.
        max_packet_bytes: as announced; None if it was not.
        receive_maximum: likewise.
    """
    preset = address.preset
    # Whoever sends a larger packet than was announced is thrown off, so nothing configured can exceed that.
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
    """The limits with packets of at most so many bytes; as they are for None."""
    known = [limit for limit in (limits.max_packet_bytes, packet) if limit is not None]
    return replace(limits, max_packet_bytes=min(known, default=None))


def speaks_only_older(address: BrokerAddress, context: ssl.SSLContext | None, timeout: float = 3.0) -> bool:
    """Whether a broker answers the smallest MQTT 5 CONNECT in the format of MQTT 3.1.1.

    Some brokers of 3.1.1 take the fields that MQTT 5 added for lengths and wait for ever for what will not
    come. The smallest CONNECT has nothing that could be mistaken, so they get to answer it.
    """
    try:
        with contextlib.closing(open_wire(address, context, timeout)) as wire:
            wire.sendall(_SMALLEST_CONNECT)
            return wire.recv(4)[:2] == bytes((0x20, 2))
    except OSError:
        return False
