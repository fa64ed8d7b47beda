"""This module has paho's client with less work for each packet, since a round of a small model is mostly packets.

For each packet that comes, paho 2.2 copies the payload five times and, in MQTT 5, makes two tables of all properties
that there are; for each that goes, it copies the packet again whenever the socket is asked to take a part of it. Nearly
all packets of a fleet are of two kinds: a PUBLISH at QoS 1 without properties, and a PUBACK that says no more than
success. Those are decoded here, with one copy; every other packet is left to paho, malformed ones too.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from fedlp_edge.transport.mqtt.packet_buffer import MalformedLengthError, PacketBuffer
from fedlp_edge.transport.mqtt.sockets import AnySocket, unread

_PUBLISH_AT_QOS_1, _TYPE_AND_QOS = 0x32, 0xF6
_RETAINED = 0x01
_PUBACK = 0x40
_SUCCESS = ReasonCode(PacketTypes.PUBACK)
_NO_PROPERTIES = Properties(PacketTypes.PUBACK)  # type: ignore[no-untyped-call]


class LeanClient(paho.Client):
    """paho's client on a socket that this package opens.

    Attributes:
        open: Function that opens the socket.
        received: Function that takes the messages that are decoded here: topic, payload, whether it was retained. They
            are acknowledged. None to have paho decode them for ``on_message``.
    """

    open: Callable[[], AnySocket]
    received: Callable[[str, bytes, bool], None] | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._packets = PacketBuffer()

    def _create_socket(self) -> Any:
        return self.open()

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Reads what has come, and handles all packets that are complete."""
        del max_packets
        wire: Any = self._sock
        if wire is None:
            return MQTTErrorCode.MQTT_ERR_NO_CONN
        more = True
        while more:
            try:
                count = wire.recv_into(self._packets.room())
            except (BlockingIOError, ssl.SSLWantReadError):
                return MQTTErrorCode.MQTT_ERR_SUCCESS
            except ssl.SSLWantWriteError:
                self._call_socket_register_write()
                return MQTTErrorCode.MQTT_ERR_SUCCESS
            except OSError:
                count = 0
            result = self._handle_packets(count) if count else MQTTErrorCode.MQTT_ERR_CONN_LOST
            if result > 0:
                return self._loop_rc_handle(result)
            more = self._sock is not None and unread(wire)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _handle_packets(self, count: int) -> MQTTErrorCode:
        """Handles the packets that ``count`` further bytes complete."""
        self._packets.filled(count)
        self._last_bytes_received = time.monotonic()
        try:
            while self._sock is not None and (packet := self._packets.take()) is not None:
                result = self._handle(*packet)
                if result > 0:
                    return result
        except (MalformedLengthError, MalformedPacket):
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _packet_queue(self, command: int, packet: Any, *rest: Any, **options: Any) -> MQTTErrorCode:
        # paho sends packet[position:], which is a copy unless it is a view.
        return super()._packet_queue(command, memoryview(packet), *rest, **options)  # type: ignore[arg-type]

    def _handle(self, command: int, packet: memoryview) -> MQTTErrorCode:
        if command == _PUBACK and len(packet) == 2:
            return self._acknowledged(int.from_bytes(packet))
        if command & _TYPE_AND_QOS == _PUBLISH_AT_QOS_1 and self.received is not None:
            plain = _plain_message(packet, self._protocol)
            if plain is not None:
                topic, packet_id, payload = plain
                with contextlib.suppress(UnicodeDecodeError):  # no topic of a fleet is invalid UTF-8
                    self.received(topic.decode(), payload, bool(command & _RETAINED))
                return self._send_puback(packet_id)
        self._in_packet["command"], self._in_packet["packet"] = command, bytearray(packet)
        self._in_packet["remaining_length"] = len(packet)
        return self._packet_handle()

    def _acknowledged(self, packet_id: int) -> MQTTErrorCode:
        with self._out_message_mutex:
            if packet_id in self._out_messages:
                return self._do_on_publish(packet_id, _SUCCESS, _NO_PROPERTIES)
        return MQTTErrorCode.MQTT_ERR_SUCCESS


def _plain_message(packet: memoryview, protocol: int) -> tuple[bytes, int, bytes] | None:
    """Decodes a PUBLISH at QoS 1; None if it has properties or no topic, or is malformed.

    Args:
        packet: What comes behind the length of the packet.
        protocol: MQTT version, as paho numbers it.

    Returns:
        Topic, packet id and payload.
    """
    end = 2 + int.from_bytes(packet[:2])
    start = end + 2
    if protocol == MQTTProtocolVersion.MQTTv5:
        start += 1
    if end == 2 or start > len(packet) or (start > end + 2 and packet[start - 1]):
        return None
    return bytes(packet[2:end]), int.from_bytes(packet[end : end + 2]), bytes(packet[start:])
