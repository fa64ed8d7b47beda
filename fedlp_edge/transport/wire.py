"""A socket that carries MQTT packets, encrypted or not, without ever blocking.

What is to be sent is kept as the buffers that it came in and given to the kernel several at a time; what arrives goes
straight into the packet that it belongs to.
"""

from __future__ import annotations

import itertools
import socket
import ssl
from collections import deque
from collections.abc import Iterator

from fedlp_edge.transport.reader import Packet, PacketReader

_READS = 16  # of a socket that has more, before anything is sent again
_BUFFERS = 64  # for one call of the kernel
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Wire:
    """One connection.

    Args:
        host: of the broker.
        port: of the broker.
        context: for TLS; None for a plain connection.
        timeout: seconds for connecting, and again for the handshake.
        largest: bytes of the largest packet that is taken.

    Raises:
        OSError: it cannot be reached, or TLS fails.
        UnicodeError: the host name cannot be encoded.
    """

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None, timeout: float, largest: int) -> None:
        plain = socket.create_connection((host, port), timeout)
        try:
            # Small control messages must not wait for the acknowledgement of the packet before them.
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket = plain if context is None else context.wrap_socket(plain, server_hostname=host)
            self.socket.setblocking(False)
        except BaseException:
            plain.close()
            raise
        self._reader = PacketReader(largest)
        self._out: deque[memoryview] = deque()

    @property
    def waiting(self) -> bool:
        """Whether something waits until the kernel takes it."""
        return bool(self._out)

    @property
    def pending(self) -> bool:
        """Whether something has arrived that the kernel no longer tells of."""
        return isinstance(self.socket, ssl.SSLSocket) and self.socket.pending() > 0

    def send(self, *parts: bytes | memoryview) -> None:
        """Appends to what is to be sent; nothing is copied."""
        self._out.extend(memoryview(part) for part in parts if part)

    def flush(self) -> bool:
        """Hands the kernel what it takes now; returns whether it took anything.

        Raises:
            OSError: the connection is lost.
        """
        began = False
        while self._out:
            try:
                if isinstance(self.socket, ssl.SSLSocket):
                    sent = self.socket.send(self._out[0])
                else:
                    sent = self.socket.sendmsg(list(itertools.islice(self._out, _BUFFERS)))
            except _NOT_NOW:
                break
            began = True
            self._drop(sent)
        return began

    def receive(self) -> Iterator[Packet]:
        """The packets that have arrived, or the first of very many.

        Raises:
            ConnectionError: the other side ended the connection.
            OSError: the connection is lost.
            MalformedPacket: what comes is no MQTT.
        """
        for _ in range(_READS):
            room = self._reader.room()
            try:
                if isinstance(self.socket, ssl.SSLSocket):
                    room = room[:1]
                    count = self.socket.recv_into(room[0])
                else:
                    count = self.socket.recvmsg_into(room)[0]
            except _NOT_NOW:
                return
            if not count:
                raise ConnectionError("the other side ended the connection")
            yield from self._reader.took(count)
            if count < sum(map(len, room)):
                return

    def close(self) -> None:
        """Lets go of the socket."""
        self.socket.close()

    def _drop(self, sent: int) -> None:
        while sent:
            first = self._out[0]
            if sent < len(first):
                self._out[0] = first[sent:]
                return
            sent -= len(first)
            self._out.popleft()
