"""MQTT over WebSockets: on a real broker, and against servers that the test plays."""

from __future__ import annotations

import base64
import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fedlp_edge.errors import BrokerError
from fedlp_edge.transport.address import BrokerAddress, BrokerSettings
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from fedlp_edge.transport.mqtt.transport import MqttTransport
from fedlp_edge.transport.mqtt.websocket import WebSocket, WebSocketRefusedError
from tests.transport.authority import Authority
from tests.transport.clients import connected
from tests.transport.nats import NatsBroker

LARGE = bytes(range(256)) * 2048


def exchange(address: BrokerAddress) -> None:
    """Messages small and large go there and come back."""
    with connected(address, "web") as client:
        client.subscribe("fedlp/web/echo")
        payloads = [b"x", *[LARGE] * 8, bytes(70_000), b""]
        for payload in payloads:
            client.transport.publish("fedlp/web/echo", payload)
        assert client.payloads(len(payloads)) == payloads


def read(client: WebSocket, most: int) -> bytes:
    """Up to so many payload bytes."""
    room = memoryview(bytearray(most))
    return bytes(room[: client.recv_into(room)])


def test_messages_pass_through_a_websocket() -> None:
    with NatsBroker() as broker:
        exchange(BrokerAddress.parse(broker.websocket_url, {}))


def test_messages_pass_through_a_websocket_with_tls_and_its_certificate_is_checked(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "own"), Authority(tmp_path / "other")
    with NatsBroker(*authority.issue("broker")) as broker:
        exchange(BrokerSettings(url=broker.websocket_url, ca=str(authority.certificate)).address({}))
        refused = BrokerSettings(url=broker.websocket_url, ca=str(other.certificate)).address({})
        with pytest.raises(BrokerError, match="is not the file of the authority that signed it"):
            MqttTransport(refused, "web").start(print)


def test_plain_mqtt_port_is_said_to_have_no_websocket(mosquitto: MosquittoBroker) -> None:
    with pytest.raises(BrokerError, match=r"answers 'nothing' where a WebSocket.* or use mqtt://"):
        MqttTransport(BrokerAddress("127.0.0.1", mosquitto.port, path="/mqtt"), "web").start(print)


def accept_of(request: bytes) -> bytes:
    key = next(line for line in request.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Key: ")).partition(b": ")[2]
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    return b"HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: " + accept + b"\r\n\r\n"


@contextmanager
def played(answer: Callable[[bytes], bytes]) -> Iterator[tuple[WebSocket, socket.socket]]:
    """A client before its handshake, and the server's end, which answers the request and then is the test's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5)
        theirs.settimeout(5)
        server = threading.Thread(target=lambda: theirs.sendall(answer(theirs.recv(4096))))
        server.start()
        yield WebSocket(ours), theirs
        server.join()


def test_asks_for_mqtt_on_the_path_of_the_url() -> None:
    requests: list[bytes] = []

    def answer(request: bytes) -> bytes:
        requests.append(request)
        return accept_of(request)

    with played(answer) as (client, _):
        client.handshake("broker.example:8080", "/mqtt?token=1")

    assert requests[0].startswith(b"GET /mqtt?token=1 HTTP/1.1\r\nHost: broker.example:8080\r\n")
    assert b"\r\nSec-WebSocket-Protocol: mqtt\r\n" in requests[0]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "404 Not Found"),
        (b"HTTP/1.1 101 Switching\r\nSec-WebSocket-Accept: guessed\r\n\r\n", "101 Switching"),
        (b"\x1b[31mred\r\n\r\n", r"^\[31mred$"),
    ],
)
def test_any_other_answer_is_refused_in_printable_words(answer: bytes, words: str) -> None:
    with played(lambda _: answer) as (client, _), pytest.raises(WebSocketRefusedError, match=words):
        client.handshake("h", "/mqtt")


def test_frames_come_apart_wherever_they_are_cut() -> None:
    frames = b"\x82\x03abc" + b"\x02\x02de" + b"\x80\x01f" + b"\x82\x7e\x00\x80" + b"g" * 128
    with played(accept_of) as (client, server):
        client.handshake("h", "/mqtt")
        received = b""
        for number in range(len(frames)):
            server.sendall(frames[number : number + 1])
            try:
                received += read(client, 2)
            except BlockingIOError:
                continue
        while client.pending():
            received += read(client, 1000)

    assert received == b"abcdef" + b"g" * 128


def test_answers_a_ping_and_ends_with_a_close() -> None:
    with played(accept_of) as (client, server):
        client.handshake("h", "/mqtt")
        server.sendall(b"\x89\x02hi" + b"\x82\x01x" + b"\x88\x00")
        assert read(client, 10) == b"x"
        pong = server.recv(100)
        assert read(client, 10) == b""

    mask = pong[2:6]
    assert pong[:2] == b"\x8a\x82"
    assert bytes(byte ^ mask[i] for i, byte in enumerate(pong[6:])) == b"hi"


@pytest.mark.parametrize("frame", [b"\x81\x01x", b"\x82\x81abcdx", b"\x89\x7e\x00\x80"])
def test_what_no_server_may_send_ends_the_connection(frame: bytes) -> None:
    with played(accept_of) as (client, server):
        client.handshake("h", "/mqtt")
        server.sendall(frame)
        with pytest.raises(ConnectionError, match="no WebSocket frame"):
            read(client, 10)


def test_frame_of_which_the_kernel_takes_a_part_goes_on_with_the_next_call() -> None:
    with played(accept_of) as (client, server):
        client.handshake("h", "/mqtt")
        client.setblocking(False)
        payload, received = bytes(4_000_000), bytearray()
        taken = 0
        while not taken:
            try:
                taken = client.send(payload)
            except BlockingIOError:
                received += server.recv(1 << 20)
        server.settimeout(0.2)
        while len(received) < len(payload) + 14:
            received += server.recv(1 << 20)

    assert taken == len(payload)
    mask, body = bytes(received[10:14]), received[14:]
    assert bytes(received[:10]) == b"\x82\xff" + len(payload).to_bytes(8, "big")
    assert body == mask * (len(payload) // 4)
