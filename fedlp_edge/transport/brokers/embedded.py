"""This module embeds amqtt, a broker in pure Python, so that a first try needs nothing but pip.

It speaks MQTT 3.1.1, stores nothing on disk and asks for no login, so by default it listens on the loopback
interface alone. Real fleets use Mosquitto or another full broker.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from concurrent.futures import Future
from typing import Any, Self

from fedlp_edge.errors import OperatorError
from fedlp_edge.system.lifecycle import run_command
from fedlp_edge.system.loading.install_command import install_command
from fedlp_edge.transport.brokers.local_broker import arguments, serve
from fedlp_edge.transport.brokers.ports import ATTEMPTS, broker_url, check_free, free_port

STOP_SECONDS = 5.0


class EmbeddedBroker:
    """A broker that runs in a thread of this process.

    amqtt queues messages without limit: it drops nothing, and takes packets of any size. Where many packets and the
    DISCONNECT of a client come at once, it may hand on the first few alone (always so with Python 3.14).

    Args:
        host: Address to listen on.
        port: TCP port; 0 for any free one.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host = host
        self.port = port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The URL of the started broker."""
        return broker_url(self.host, self.port)

    def alive(self) -> bool:
        """Whether the broker still runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Starts the broker and returns when clients can connect.

        Raises:
            OperatorError: Amqtt is not installed, or the port is in use.
        """
        try:
            import amqtt.broker  # noqa: PLC0415 - an extra
        except ModuleNotFoundError:
            raise OperatorError(
                f"the embedded broker needs amqtt; run: {install_command('broker')} (or use another broker)"
            ) from None
        # amqtt logs every client that speaks another version, or disconnects without a DISCONNECT.
        for name in ("amqtt", "transitions"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        fixed = self.port != 0
        if fixed:
            check_free(self.host, self.port)
        for attempt in range(1 if fixed else ATTEMPTS):
            if not fixed:
                self.port = free_port(self.host)
            started: Future[None] = Future()
            self._thread = threading.Thread(
                target=lambda ready=started: asyncio.run(self._serve(amqtt.broker.Broker, ready)),
                name="embedded-broker",
                daemon=True,
            )
            self._thread.start()
            try:
                started.result()
                return
            except amqtt.errors.BrokerError:
                self._thread.join()
                self._thread = None
                if fixed or attempt == ATTEMPTS - 1:
                    raise OperatorError(
                        f"cannot listen on {self.host}:{self.port}; is another broker running there? "
                        "Choose another port"
                    ) from None

    def stop(self) -> None:
        """Ends the broker; clients see their connections close."""
        if self._thread is None or self._loop is None or self._stop is None:
            return
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    async def _serve(self, broker_class: Any, started: Future[None]) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        # A client that vanishes in the middle of its first packet ends a task of amqtt with an error.
        self._loop.set_exception_handler(lambda _loop, _context: None)
        broker = broker_class(
            {
                "listeners": {"default": {"type": "tcp", "bind": f"{self.host}:{self.port}", "max_connections": -1}},
                "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
            }
        )
        try:
            await broker.start()
        except BaseException as error:
            started.set_exception(error)
            return
        started.set_result(None)
        await self._stop.wait()
        try:
            await asyncio.wait_for(broker.shutdown(), STOP_SECONDS)
        except TimeoutError:
            logging.getLogger(__name__).debug("the embedded broker did not end in time")


def main() -> int:
    """Runs ``python -m fedlp_edge.transport.brokers.embedded``."""
    options = arguments("fedlp_edge.transport.brokers.embedded", "Run the embedded MQTT broker (amqtt).")
    return serve(EmbeddedBroker(options.host, options.port))


if __name__ == "__main__":
    sys.exit(run_command(main))
