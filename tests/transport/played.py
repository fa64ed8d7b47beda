"""Brokers that a test plays: what they send and when they hang up is written out byte by byte."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fedlp_edge.transport.address import BrokerAddress, Protocol

CONNACK_311 = b"\x20\x02\x00\x00"
CONNACK_5 = b"\x20\x03\x00\x00\x00"


class Wire:
    """The broker's end of one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._stream = connection.makefile("rb")

    def read(self) -> bytes:
        """One short packet, its two-byte header included; empty at the end of the connection."""
        head = self._stream.read(2)
        return head + self._stream.read(head[1]) if len(head) == 2 else b""

    def read_long(self) -> bytes:
        """One packet of any length; empty at the end of the connection."""
        head = self._stream.read(1)
        size = shift = 0
        while head and (len(head) == 1 or head[-1] & 0x80):
            head += self._stream.read(1)
            size |= (head[-1] & 0x7F) << shift
            shift += 7
        return head + self._stream.read(size) if head else b""

    def send(self, packet: bytes) -> None:
        self._connection.sendall(packet)

    @property
    def longest_segment(self) -> int:
        """Bytes that the client lets a TCP segment have."""
        return self._connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)

    def close(self) -> None:
        self._stream.close()
        self._connection.close()


@contextmanager
def played(*lives: Callable[[Wire], None], protocol: Protocol = "auto") -> Iterator[BrokerAddress]:
    """A broker that plays one of ``lives`` on each connection, in order, and then is gone."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def play() -> None:
            for life in lives:
                connection, _ = server.accept()
                connection.settimeout(20)
                wire = Wire(connection)
                try:
                    life(wire)
                finally:
                    wire.close()

        thread = threading.Thread(target=play)
        thread.start()
        yield BrokerAddress("127.0.0.1", server.getsockname()[1], protocol=protocol)
        thread.join()


@contextmanager
def together(*lives: Callable[[Wire], None]) -> Iterator[BrokerAddress]:
    """As ``played``, but a life need not have ended for the next one to begin."""
    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def live(life: Callable[[Wire], None], wire: Wire) -> None:
            try:
                life(wire)
            finally:
                wire.close()

        def play() -> None:
            for life in lives:
                connection, _ = server.accept()
                connection.settimeout(20)
                threads.append(threading.Thread(target=live, args=(life, Wire(connection))))
                threads[-1].start()

        player = threading.Thread(target=play)
        player.start()
        yield BrokerAddress("127.0.0.1", server.getsockname()[1])
        player.join()
        for thread in threads:
            thread.join()


def hang_up(wire: Wire) -> None:
    wire.read()


def stay_silent(wire: Wire) -> None:
    while wire.read():
        pass
