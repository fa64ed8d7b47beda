"""This module carries MQTT in WebSocket frames (RFC 6455), for networks that allow only HTTP, with a socket's methods.

paho has a WebSocket too, but it masks byte by byte in Python (0.5 MB/s on a small board), reads a frame again for each
packet in it, and loses a packet of which the kernel accepts only a part.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import secrets
import socket
import ssl
from email.parser import BytesParser

_ACCEPT = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x2, 0x8, 0x9, 0xA
_FINAL, _MASKED = 0x80, 0x80
_LONGEST_ANSWER = 16 * 1024
_LONGEST_CONTROL = 125
_MAX_PONGS = 4096
_READ_BYTES = 256 * 1024


class WebSocketRefusedError(ConnectionError):
    """Raised when the server is no WebSocket server for MQTT; the text is the first line of its answer."""


class WebSocket:
    """One WebSocket connection over an open socket, with or without TLS.

    Args:
        wire: Connected socket, with a timeout until ``handshake`` has returned.
    """

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire
        self._raw = bytearray()
        self._payload = bytearray()
        self._left = 0  # payload bytes of the current frame that have not arrived
        self._out = bytearray()
        self._accepted = 0
        self._pongs = bytearray()
        self._closed = False

    def handshake(self, host: str, path: str) -> None:
        """Requests a WebSocket for the subprotocol ``mqtt``.

        Args:
            host: Host and port, as in a URL.
            path: Path, with the query if there is one.

        Raises:
            WebSocketRefusedError: The server does not accept the WebSocket.
            OSError: The connection is lost, or no answer arrives in time.
        """
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        request = (
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
        )
        self._wire.sendall(request.encode("ascii"))
        answer = bytearray()
        while b"\r\n\r\n" not in answer:
            try:
                data = self._wire.recv(4096)
            except (ConnectionError, ssl.SSLEOFError):
                data = b""
            if not data or len(answer) > _LONGEST_ANSWER:
                raise WebSocketRefusedError(_said(answer))
            answer += data
        head, _, rest = bytes(answer).partition(b"\r\n\r\n")
        status, _, fields = head.partition(b"\r\n")
        headers = BytesParser().parsebytes(fields, headersonly=True)
        expected = base64.b64encode(hashlib.sha1(f"{key}{_ACCEPT}".encode(), usedforsecurity=False).digest()).decode()
        if status.split()[1:2] != [b"101"] or headers.get("Sec-WebSocket-Accept") != expected:
            raise WebSocketRefusedError(_said(answer))
        self._raw += rest
        self._unpack()

    def recv_into(self, room: memoryview) -> int:
        """Writes payload bytes of the frames into ``room``; returns their number, 0 at the end of the connection.

        Raises:
            BlockingIOError: No byte has arrived yet.
        """
        while not self._payload:
            if self._closed:
                return 0
            data = self._wire.recv(_READ_BYTES)
            if not data:
                return 0
            self._raw += data
            self._unpack()
            self._answer_pings()
            if not self._payload and not self._closed:
                raise BlockingIOError
        count = min(len(room), len(self._payload))
        room[:count] = self._payload[:count]
        del self._payload[:count]
        return count

    def send(self, data: bytes | bytearray | memoryview) -> int:
        """Sends all bytes as one frame; returns their number.

        Raises:
            BlockingIOError: The kernel has not accepted all bytes; call again with the same bytes.
        """
        if not self._out:
            self._flush(self._pongs)  # never in the middle of a frame
            self._out += _frame(_BINARY, data)
            self._accepted = len(data)
        self._flush(self._out)
        return self._accepted

    def pending(self) -> int:
        """Returns the bytes that were read from the socket already, which a selector does not see."""
        inner = getattr(self._wire, "pending", None)
        return len(self._payload) + (inner() if inner else 0)

    def fileno(self) -> int:
        """Returns the file descriptor of the socket below."""
        return self._wire.fileno()

    def setblocking(self, flag: bool) -> None:
        """Sets whether the socket below blocks."""
        self._wire.setblocking(flag)

    def setsockopt(self, level: int, name: int, value: int) -> None:
        """Sets an option of the socket below."""
        self._wire.setsockopt(level, name, value)

    def sendall(self, data: bytes) -> None:
        """Sends all bytes over a blocking socket."""
        self.send(data)

    def close(self) -> None:
        """Closes the socket below; MQTT's DISCONNECT has been sent before."""
        self._wire.close()

    def _unpack(self) -> None:
        """Extracts the payload of the received frames, of the last one as far as it has arrived.

        Raises:
            ConnectionError: The bytes are no frame that a server may send.
        """
        while self._raw and not self._closed:
            if self._left:
                taken = min(self._left, len(self._raw))
                self._payload += self._raw[:taken]
                del self._raw[:taken]
                self._left -= taken
                continue
            header = _header(self._raw)
            if header is None:
                return
            opcode, start, size = header
            if opcode in {_BINARY, _CONTINUATION}:
                del self._raw[:start]
                self._left = size
                continue
            if len(self._raw) < start + size:
                return
            if opcode == _PING and len(self._pongs) < _MAX_PONGS:
                self._pongs += _frame(_PONG, self._raw[start : start + size])
            self._closed = opcode == _CLOSE
            del self._raw[: start + size]

    def _answer_pings(self) -> None:
        if not self._out:
            with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                self._flush(self._pongs)

    def _flush(self, frames: bytearray) -> None:
        while frames:
            del frames[: self._wire.send(frames)]


def _header(raw: bytearray) -> tuple[int, int, int] | None:
    """Returns opcode, header bytes and payload bytes of the frame that begins here; None if its header is incomplete.

    Raises:
        ConnectionError: The bytes are no frame that a server may send.
    """
    if len(raw) < 2:
        return None
    opcode, size = raw[0] & 0x0F, raw[1] & 0x7F
    wide = {126: 2, 127: 8}.get(size, 0)
    if raw[1] & _MASKED or opcode not in {_CONTINUATION, _BINARY, _CLOSE, _PING, _PONG} or (opcode >= _CLOSE and wide):
        raise ConnectionError("the broker sends what is no WebSocket frame")
    if len(raw) < 2 + wide:
        return None
    return opcode, 2 + wide, int.from_bytes(raw[2 : 2 + wide], "big") if wide else size


def _frame(opcode: int, data: bytes | bytearray | memoryview) -> bytes:
    """Returns one frame, masked as RFC 6455 demands of clients."""
    size = len(data)
    head = bytes((_FINAL | opcode,))
    if size <= _LONGEST_CONTROL:
        head += bytes((_MASKED | size,))
    elif size < 1 << 16:
        head += bytes((_MASKED | 126,)) + size.to_bytes(2, "big")
    else:
        head += bytes((_MASKED | 127,)) + size.to_bytes(8, "big")
    mask = secrets.token_bytes(4)
    key = (mask * (size // 4 + 1))[:size]
    masked = int.from_bytes(data, "little") ^ int.from_bytes(key, "little")
    return head + mask + masked.to_bytes(size, "little")


def _said(answer: bytes | bytearray) -> str:
    line = bytes(answer).partition(b"\r\n")[0][:80]
    return "".join(c for c in line.decode("ascii", "replace") if c.isprintable()) or "nothing"
