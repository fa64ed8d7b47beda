"""A TCP proxy that carries so many bytes a second in each direction and no more: a slow last mile.

It keeps little itself, as a modem does, so that whoever sends too much has to wait. Nothing is lost.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections import deque
from typing import Literal, Self

BUFFER_BYTES = 16 * 1024
BURST_SECONDS = 0.05

Direction = Literal["up", "down"]


class SlowLink:
    """One listening port before one broker; a context manager.

    Args:
        host: of the broker.
        port: of the broker.
        up: bytes per second to the broker.
        down: bytes per second from it.
        latency: seconds, one way.

    Attributes:
        carried: bytes, by direction.
        connections: that were made through it.
    """

    def __init__(self, host: str, port: int, *, up: float, down: float, latency: float = 0.0) -> None:
        self.carried: dict[Direction, int] = {"up": 0, "down": 0}
        self.connections = 0
        self._upstream = (host, port)
        self._rates: dict[Direction, float] = {"up": up, "down": down}
        self._latency = latency
        self._cut_after: float = math.inf
        self._moving = threading.Event()
        self._moving.set()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []

    @property
    def url(self) -> str:
        host, port = self._server.getsockname()[:2]
        return f"mqtt://{host}:{port}"

    def pause(self, seconds: float) -> None:
        """Nothing moves for a while; returns at once."""
        self._moving.clear()
        threading.Timer(seconds, self._moving.set).start()

    def cut(self) -> None:
        """Ends all connections, and loses what was on its way."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _close(*pair)

    def cut_after(self, *, down: int) -> None:
        """Ends all connections once so many bytes have come from the broker."""
        self._cut_after = down

    def __enter__(self) -> Self:
        self._server = _small(socket.socket())
        self._server.bind(("127.0.0.1", 0))
        self._server.listen()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._moving.set()
        _close(self._server)
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                device, _ = self._server.accept()
                broker = _small(socket.socket())
                broker.connect(self._upstream)
            except OSError:
                return
            self.connections += 1
            self._pairs.append((device, broker))
            for end in (device, broker):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._carry, args=(device, broker, "up"), daemon=True).start()
            threading.Thread(target=self._carry, args=(broker, device, "down"), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, direction: Direction) -> None:
        rate = self._rates[direction]
        way: deque[tuple[float, bytes]] = deque()
        there = threading.Condition()
        arrive = threading.Thread(target=self._arrive, args=(way, there, target), daemon=True)
        arrive.start()
        free = time.monotonic()
        with contextlib.suppress(OSError):
            while data := source.recv(max(64, min(8192, int(rate * BURST_SECONDS)))):
                self._moving.wait()
                free = max(free, time.monotonic() - BURST_SECONDS) + len(data) / rate
                time.sleep(max(0.0, free - time.monotonic()))
                self.carried[direction] += len(data)
                if self.carried["down"] >= self._cut_after:
                    self._cut_after = math.inf
                    self.cut()
                with there:
                    way.append((time.monotonic() + self._latency, data))
                    there.notify()
        with there:
            way.append((0.0, b""))
            there.notify()
        arrive.join()
        _close(source, target)

    def _arrive(self, way: deque[tuple[float, bytes]], there: threading.Condition, target: socket.socket) -> None:
        while True:
            with there:
                there.wait_for(lambda: way)
                due, data = way.popleft()
            if not data:
                return
            time.sleep(max(0.0, due - time.monotonic()))
            with contextlib.suppress(OSError):
                target.sendall(data)


def _small(end: socket.socket) -> socket.socket:
    """Its connections, and those that it accepts, keep few bytes in the kernel."""
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        end.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
    return end


def _close(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
