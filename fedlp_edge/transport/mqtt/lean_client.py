"""This module has paho's client with less work for each packet, since a round of a small model is mostly packets.

For each packet that comes, paho 2.2 copies the payload five times and, in MQTT 5, makes two tables of all properties
that there are; for each that goes, it copies the packet again whenever the socket is asked to take a part of it. Nearly
all packets of a fleet are of two kinds: a PUBLISH at QoS 1 without properties, and a PUBACK that says no more than
success. Those are decoded here, with one copy; every other packet is left to paho, malformed ones too.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from fedlp_edge.transport.mqtt.sockets import AnySocket
from fedlp_edge.transport.mqtt.websocket import WebSocket

_PUBLISH_AT_QOS_1, _TYPE_AND_QOS = 0x32, 0xF6
_DUPLICATE, _RETAINED = 0x08, 0x01
_PUBACK = 0x40
_SUCCESS = ReasonCode(PacketTypes.PUBACK)
_NO_PROPERTIES = Properties(PacketTypes.PUBACK)  # type: ignore[no-untyped-call]

_READ_BYTES = 256 * 1024
_LEAST_READ_BYTES = 1024
"""Fewer bytes are read as paho does: what a read of a few bytes allocates costs nothing."""


class LeanClient(paho.Client):
    """paho's client on a socket that this package opens.

    Attributes:
        open: Function that opens the socket.
    """

    open: Callable[[], AnySocket]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._buffer = memoryview(bytearray(_READ_BYTES))

    def _create_socket(self) -> Any:
        return self.open()

    def _sock_recv(self, bufsize: int) -> Any:
        """Returns up to ``bufsize`` bytes, which are overwritten by the next call: paho appends them to the packet."""
        wire: Any = self._sock
        if bufsize < _LEAST_READ_BYTES or wire is None or isinstance(wire, WebSocket):
            return super()._sock_recv(bufsize)
        try:
            return self._buffer[: wire.recv_into(self._buffer[:bufsize])]
        except ssl.SSLWantReadError:
            raise BlockingIOError from None
        except ssl.SSLWantWriteError:
            self._call_socket_register_write()
            raise BlockingIOError from None

    def _packet_queue(self, command: int, packet: Any, *rest: Any, **options: Any) -> MQTTErrorCode:
        # paho sends packet[position:], which is a copy unless it is a view.
        return super()._packet_queue(command, memoryview(packet), *rest, **options)  # type: ignore[arg-type]

    def _packet_handle(self) -> MQTTErrorCode:
        command, packet = self._in_packet["command"], self._in_packet["packet"]
        if command == _PUBACK and len(packet) == 2:
            return self._acknowledged(int.from_bytes(packet))
        if command & _TYPE_AND_QOS == _PUBLISH_AT_QOS_1:
            message = _plain_message(command, packet, self._protocol)
            if message is not None:
                self._handle_on_message(message)
                return MQTTErrorCode.MQTT_ERR_SUCCESS if self._manual_ack else self._send_puback(message.mid)
        return super()._packet_handle()

    def _acknowledged(self, packet_id: int) -> MQTTErrorCode:
        with self._out_message_mutex:
            if packet_id in self._out_messages:
                return self._do_on_publish(packet_id, _SUCCESS, _NO_PROPERTIES)
        return MQTTErrorCode.MQTT_ERR_SUCCESS


def _plain_message(command: int, packet: bytearray, protocol: int) -> paho.MQTTMessage | None:
    """Decodes a PUBLISH at QoS 1; None if it has properties or no topic, or is malformed.

    Args:
        command: First byte of the packet.
        packet: What comes behind the length of the packet.
        protocol: MQTT version, as paho numbers it.
    """
    end = 2 + int.from_bytes(packet[:2])
    start = end + 2
    if protocol == MQTTProtocolVersion.MQTTv5:
        start += 1
    if end == 2 or start > len(packet) or (start > end + 2 and packet[start - 1]):
        return None
    message = paho.MQTTMessage(int.from_bytes(packet[end : end + 2]), bytes(packet[2:end]))
    message.qos = 1
    message.dup, message.retain = bool(command & _DUPLICATE), bool(command & _RETAINED)
    message.payload = bytes(memoryview(packet)[start:])
    message.timestamp = time.monotonic()
    return message
