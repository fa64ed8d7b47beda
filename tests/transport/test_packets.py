"""Packets byte by byte, as the two standards write them down."""

from __future__ import annotations

import pytest

from fedlp_edge.transport import packets, words
from fedlp_edge.transport.base import LastWill
from fedlp_edge.transport.packets import ConnAck, Goodbye, MalformedPacket, PubAck, Published, SubAck


def connect(version: str, **changes: object) -> bytes:
    given = {"username": None, "password": None, "will": None, "max_packet_bytes": 256, **changes}
    return packets.connect(version, "pi", 30, **given)  # type: ignore[arg-type]


def read(version: str, packet: bytes) -> object:
    """A packet with a length of one byte."""
    assert packet[1] == len(packet) - 2
    return packets.read(version, packet[0], memoryview(packet)[2:])


def test_connect_names_version_client_login_and_will() -> None:
    assert connect("3.1.1") == b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x1e\x00\x02pi"
    assert connect("5") == b"\x10\x14\x00\x04MQTT\x05\x02\x00\x1e\x05\x27\x00\x00\x01\x00\x00\x02pi"
    full = connect("5", username="u", password="p", will=LastWill("t", b"gone"))
    assert full[8:13] == b"\x05\xee\x00\x1e\x05"
    assert full.endswith(b"\x00\x02pi\x00\x00\x01t\x00\x04gone\x00\x01u\x00\x01p")


def test_publish_head_ends_where_the_payload_begins() -> None:
    assert packets.publish_head("3.1.1", "a/b", 7, 2, retain=True) == b"\x33\x09\x00\x03a/b\x00\x07"
    assert packets.publish_head("5", "a/b", 7, 2, retain=False) == b"\x32\x0a\x00\x03a/b\x00\x07\x00"
    assert packets.publish_head("5", "a", 1, 200_000, retain=False)[:4] == b"\x32\xc6\x9a\x0c"


def test_publish_head_refuses_what_mqtt_cannot_carry() -> None:
    with pytest.raises(ValueError, match="more than a packet"):
        packets.publish_head("5", "a", 1, 1 << 28, retain=False)


def test_subscribe_and_unsubscribe_name_their_topics() -> None:
    assert packets.subscribe("3.1.1", 1, ["a", "b"]) == b"\x82\x0a\x00\x01\x00\x01a\x01\x00\x01b\x01"
    assert packets.subscribe("5", 1, ["a"]) == b"\x82\x07\x00\x01\x00\x00\x01a\x01"
    assert packets.unsubscribe("5", 2, "a") == b"\xa2\x06\x00\x02\x00\x00\x01a"


def test_reads_a_message_of_either_version() -> None:
    older = read("3.1.1", b"\x33\x09\x00\x03a/b\x00\x07hi")
    assert older == Published("a/b", memoryview(b"hi"), 7, retained=True)
    newer = read("5", b"\x30\x0b\x00\x01a\x05\x02\x00\x00\x00\x09hi")
    assert newer == Published("a", memoryview(b"hi"), None, retained=False)


def test_message_on_a_topic_that_is_no_text_can_still_be_acknowledged() -> None:
    assert read("3.1.1", b"\x32\x05\x00\x01\xff\x00\x07") == Published(None, memoryview(b""), 7, retained=False)


def test_reads_answers_with_and_without_a_reason() -> None:
    assert read("5", b"\x40\x02\x00\x07") == PubAck(7, 0)
    assert read("5", b"\x40\x04\x00\x07\x97\x00") == PubAck(7, 0x97)
    assert read("3.1.1", b"\x90\x04\x00\x07\x01\x80") == SubAck(7, (1, 0x80))
    assert read("5", b"\x90\x05\x00\x07\x00\x01\x87") == SubAck(7, (1, 0x87))
    assert read("5", b"\xe0\x01\x8e") == Goodbye(0x8E)
    assert words.reason(0x8E) == "Session taken over"


def test_reads_what_a_broker_announces_and_passes_over_the_rest() -> None:
    texts = b"\x12\x00\x02id" + b"\x26\x00\x01a\x00\x01b"
    numbers = b"\x21\x00\x14" + b"\x27\x00\x01\x00\x00" + b"\x24\x01" + b"\x25\x00" + b"\x13\x00\x0a"
    body = b"\x00\x00" + bytes((len(texts + numbers),)) + texts + numbers
    assert read("5", b"\x20" + bytes((len(body),)) + body) == ConnAck(0, 65536, 20, 1, 0, 10)


def test_takes_refusals_of_the_older_version_for_their_newer_names() -> None:
    assert read("3.1.1", b"\x20\x02\x00\x05") == ConnAck(0x87)
    assert read("5", b"\x20\x02\x00\x01") == ConnAck(0x84)


@pytest.mark.parametrize(
    "packet",
    [
        b"\x00\x00",  # no such type
        b"\x10\x00",  # only clients connect
        b"\x20\x01\x00",
        b"\x20\x04\x00\x00\x01\x77",  # unknown property
        b"\x32\x03\x00\x01a",  # no packet id
        b"\x30\x03\x00\x09a",  # topic beyond the end
        b"\x30\x04\x00\x01a\x09",  # properties beyond the end
        b"\x40\x01\x00",
        b"\x90\x02\x00\x07",
    ],
)
def test_refuses_what_no_broker_sends(packet: bytes) -> None:
    with pytest.raises(MalformedPacket):
        read("5", packet)
