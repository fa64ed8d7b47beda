"""This module runs a process that answers messages in a device's role, for ``fedlp doctor broker``.

The doctor publishes in the coordinator's role from another process, so an answer has gone through the transport that
agents use, under a device's login. The process reads its settings from standard input, where nobody else can read a
password, and ends when standard input is closed.
"""

from __future__ import annotations

import dataclasses
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from fedlp_edge.system.lifecycle import run_command
from fedlp_edge.transport.address import BrokerAddress, Protocol
from fedlp_edge.transport.base import Connected, Received, TransportEvent
from fedlp_edge.transport.mqtt.paho_clients import new_client_id
from fedlp_edge.transport.mqtt.transport import MqttTransport
from fedlp_edge.transport.presets import PRESETS, PresetName

START_SECONDS = 20.0
READY = "ready"


class DoubleSettings(msgspec.Struct, frozen=True):
    """Settings of the process: the fields of a ``BrokerAddress``, the topic to read and the topic to answer on."""

    host: str
    port: int
    tls: bool
    username: str | None
    password: str | None
    ca: str | None
    certificate: str | None
    key: str | None
    preset: PresetName
    protocol: Protocol
    path: str | None
    keepalive_seconds: int
    hears: str
    answers: str

    @classmethod
    def of(cls, address: BrokerAddress, hears: str, answers: str) -> DoubleSettings:
        """Makes the settings from a broker's address with a device's login."""
        known = {field.name: getattr(address, field.name) for field in dataclasses.fields(address)}
        files = {name: None if known[name] is None else str(known[name]) for name in ("ca", "certificate", "key")}
        own = {name: value for name, value in known.items() if name in cls.__struct_fields__}
        return cls(**{**own, **files, "preset": address.preset.name, "hears": hears, "answers": answers})

    def address(self) -> BrokerAddress:
        """Returns the address of the broker."""
        ca, certificate, key = (Path(file) if file else None for file in (self.ca, self.certificate, self.key))
        return BrokerAddress(
            self.host,
            self.port,
            self.tls,
            self.username,
            self.password,
            ca,
            certificate,
            key,
            PRESETS[self.preset],
            protocol=self.protocol,
            path=self.path,
            keepalive_seconds=self.keepalive_seconds,
        )


@contextmanager
def device_double(orders: DoubleSettings) -> Iterator[bool]:
    """Runs the process while the context lasts; yields whether the process is connected and subscribed."""
    command = [sys.executable, "-m", "fedlp_edge.transport.diagnostics.device_double"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        patience = threading.Timer(START_SECONDS, process.kill)
        patience.start()
        try:
            if process.stdin is None or process.stdout is None:
                raise OSError("a process without its pipes")
            process.stdin.write(msgspec.json.encode(orders) + b"\n")
            process.stdin.flush()
            ready = process.stdout.readline().decode().strip() == READY
            patience.cancel()
            yield ready
        finally:
            patience.cancel()
            process.kill()


def main() -> int:
    """Sends every message that it receives back, until standard input ends."""
    orders = msgspec.json.decode(sys.stdin.buffer.readline(), type=DoubleSettings)
    events: queue.SimpleQueue[TransportEvent | None] = queue.SimpleQueue()

    def wait_for_the_end() -> None:
        sys.stdin.buffer.read()
        events.put(None)

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    transport = MqttTransport(orders.address(), new_client_id("fedlp", "doctor"))
    transport.subscribe(orders.hears)
    transport.start(events.put)
    try:
        while (event := events.get()) is not None:
            if isinstance(event, Connected):
                print(READY, flush=True)
            elif isinstance(event, Received):
                transport.publish(orders.answers, event.payload)
    finally:
        transport.stop()
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
