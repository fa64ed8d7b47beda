"""TCP, then TLS and a WebSocket where the URL says so."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from fedlp_edge.transport.address import BrokerAddress
from fedlp_edge.transport.mqtt.sockets import open_socket
from fedlp_edge.transport.mqtt.websocket import WebSocket, WebSocketRefusedError
from tests.transport.mqtt.test_websocket import accept_of


@contextmanager
def listening(serve: Callable[[socket.socket], object], path: str | None = None) -> Iterator[BrokerAddress]:
    """A server that does this with its one connection, and closes it."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take() -> None:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(5)
                serve(connection)

        thread = threading.Thread(target=take)
        thread.start()
        yield BrokerAddress("127.0.0.1", server.getsockname()[1], path=path)
        thread.join()


def test_plain_address_gives_a_socket_with_the_timeout() -> None:
    with listening(lambda connection: connection.sendall(connection.recv(5))) as address:
        opened = open_socket(address, None, 3.0)
        with opened:  # type: ignore[union-attr]
            assert isinstance(opened, socket.socket)
            assert opened.gettimeout() == 3.0
            opened.sendall(b"there")
            assert opened.recv(5) == b"there"


def test_address_with_a_path_gives_a_websocket() -> None:
    def answer(connection: socket.socket) -> None:
        request = connection.recv(4096)
        assert request.startswith(b"GET /mqtt HTTP/1.1\r\n")
        connection.sendall(accept_of(request))
        connection.recv(1)

    with listening(answer, "/mqtt") as address:
        opened = open_socket(address, None, 3.0)
        assert isinstance(opened, WebSocket)
        opened.close()


def test_connection_is_closed_where_there_is_no_websocket() -> None:
    closed: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 404 Not Found\r\n\r\n")
        closed.append(connection.recv(1))

    with listening(answer, "/mqtt") as address, pytest.raises(WebSocketRefusedError):
        open_socket(address, None, 3.0)
    assert closed == [b""]


def test_connection_is_closed_where_there_is_no_tls() -> None:
    closed: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"this is no TLS record\n")
        try:
            while connection.recv(4096):
                pass
        except ConnectionResetError:  # what was sent is not read to its end
            pass
        closed.append(b"")

    with listening(answer) as address, pytest.raises(ssl.SSLError):
        open_socket(address, ssl.create_default_context(), 3.0)
    assert closed == [b""]


def test_nothing_that_listens_is_an_error_of_the_system() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        open_socket(BrokerAddress("127.0.0.1", port), None, 3.0)


def test_certificates_that_do_not_arrive_are_asked_for_in_shorter_segments() -> None:
    segments: list[int] = []

    def take(connection: socket.socket) -> None:
        segments.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))
        while connection.recv(4096):
            pass

    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    take(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        address = BrokerAddress("127.0.0.1", server.getsockname()[1], tls=True)
        with pytest.raises(TimeoutError):
            open_socket(address, ssl.create_default_context(), 0.3)
        thread.join()
    assert segments[0] > 1200
    assert 1100 < segments[1] <= 1200


def test_a_host_that_nobody_listens_on_is_refused_with_shorter_segments_as_well() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        open_socket(BrokerAddress("127.0.0.1", port), None, 1.0, 536)
