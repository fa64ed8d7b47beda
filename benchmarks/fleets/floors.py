"""What the same exchange costs with nothing around it: over plain TCP, and over MQTT with paho alone.

A server has a vector; each client receives it, adds its own constant and returns the sum; the server keeps what it
receives. Nothing is checked, acknowledged, written to disk or averaged. Over MQTT the vector goes out once, in chunks
on a topic that all clients hear, and comes back in chunks of the same size, all at QoS 1; the broker's queues must be
unlimited, since nothing here repairs a loss.

``python -m benchmarks.fleets.floors ROLE KIND ADDRESS ELEMENTS DEVICES ROUNDS NUMBER``; every process prints one JSON
object: the seconds of each round (``seconds``, of the server), and the processor time of all rounds but the first
(``cpu_s``).
"""

from __future__ import annotations

import json
import queue
import socket
import sys
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from fedlp_edge.wire.chunks import DEFAULT_CHUNK_BYTES

_INDEX_BYTES = 4


class RoundMeter:
    """Seconds of rounds, and the processor time of this process for all of them but the first.

    Attributes:
        seconds: Seconds of each round that has ended.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began = time.perf_counter()
        self._cpu_after_first = time.process_time()

    def begin(self) -> None:
        """Begins a round."""
        self._began = time.perf_counter()

    def end(self) -> None:
        """Ends a round."""
        self.seconds.append(time.perf_counter() - self._began)
        if len(self.seconds) == 1:
            self._cpu_after_first = time.process_time()

    def report(self) -> None:
        """Prints what was measured."""
        cpu = time.process_time() - self._cpu_after_first
        print(json.dumps({"seconds": self.seconds, "cpu_s": cpu}), flush=True)


def tcp_server(port: int, elements: int, devices: int, rounds: int, meter: RoundMeter) -> None:
    """Sends and receives on a thread per client."""
    vector = np.ones(elements, np.float32)
    answers = np.zeros((devices, elements), np.float32)
    gate = threading.Barrier(devices + 1)
    with socket.create_server(("127.0.0.1", port)) as listener:
        wires = [listener.accept()[0] for _ in range(devices)]

    def exchange(wire: socket.socket, answer: npt.NDArray[np.float32]) -> None:
        for _ in range(rounds):
            gate.wait()
            wire.sendall(_bytes_of(vector))
            _receive(wire, _bytes_of(answer))
            gate.wait()

    threads = [threading.Thread(target=exchange, args=pair) for pair in zip(wires, answers, strict=True)]
    for thread in threads:
        thread.start()
    for _ in range(rounds):
        gate.wait()
        meter.begin()
        gate.wait()
        meter.end()
    for thread in threads:
        thread.join()


def tcp_client(port: int, elements: int, rounds: int, number: int, meter: RoundMeter) -> None:
    """Returns what it receives plus its number."""
    vector = np.zeros(elements, np.float32)
    with _connected(port) as wire:
        for _ in range(rounds):
            _receive(wire, _bytes_of(vector))
            vector += np.float32(number)
            wire.sendall(_bytes_of(vector))
            meter.end()


def mqtt_server(port: int, elements: int, devices: int, rounds: int, meter: RoundMeter) -> None:
    """Publishes the vector once a round and waits for every client's answer."""
    vector = np.ones(elements, np.float32)
    whole = _bytes_of(vector)
    answers = [memoryview(bytearray(len(whole))) for _ in range(devices)]
    count = -(-len(whole) // DEFAULT_CHUNK_BYTES)
    done: queue.SimpleQueue[None] = queue.SimpleQueue()
    ready: queue.SimpleQueue[str] = queue.SimpleQueue()
    left = [count * devices]

    def on_message(_client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        if message.topic.startswith("ready/"):
            ready.put(message.topic)
            return
        _store(answers[int(message.topic.rpartition("/")[2])], message.payload)
        left[0] -= 1
        if not left[0]:
            done.put(None)

    client = _joined(port, ["answer/+", "ready/+"], on_message)
    present: set[str] = set()
    while len(present) < devices:
        present.add(ready.get())
    for _ in range(rounds):
        left[0] = count * devices
        meter.begin()
        _publish(client, "vector", whole)
        done.get()
        meter.end()
    client.disconnect()
    client.loop_stop()


def mqtt_client(port: int, elements: int, rounds: int, number: int, meter: RoundMeter) -> None:
    """Returns what it receives plus its number."""
    vector = np.zeros(elements, np.float32)
    whole = _bytes_of(vector)
    count = -(-len(whole) // DEFAULT_CHUNK_BYTES)
    done: queue.SimpleQueue[None] = queue.SimpleQueue()
    arrived = [0]

    def on_message(_client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        _store(whole, message.payload)
        arrived[0] += 1
        if arrived[0] % count == 0:
            done.put(None)

    client = _joined(port, ["vector"], on_message)
    while not arrived[0]:  # again and again: the server may come later
        client.publish(f"ready/{number}", b"yes", qos=1)
        time.sleep(0.1)
    for _ in range(rounds):
        done.get()
        vector += np.float32(number)
        last = _publish(client, f"answer/{number}", whole)
        meter.end()
    last.wait_for_publish(60.0)
    client.disconnect()
    client.loop_stop()


def _bytes_of(vector: npt.NDArray[np.float32]) -> memoryview:
    return memoryview(vector.data).cast("B")


def _publish(client: paho.Client, topic: str, whole: memoryview) -> paho.MQTTMessageInfo:
    for index, start in enumerate(range(0, len(whole), DEFAULT_CHUNK_BYTES)):
        info = client.publish(topic, index.to_bytes(_INDEX_BYTES) + whole[start : start + DEFAULT_CHUNK_BYTES], qos=1)
    return info


def _store(place: memoryview, payload: bytes | bytearray) -> None:
    start = int.from_bytes(payload[:_INDEX_BYTES]) * DEFAULT_CHUNK_BYTES
    place[start : start + len(payload) - _INDEX_BYTES] = memoryview(payload)[_INDEX_BYTES:]


def _joined(port: int, topics: list[str], on_message: Any) -> paho.Client:
    """A client whose subscriptions stand."""
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311)
    client.max_inflight_messages_set(0)  # as many as paho can number: the broker's queue takes them
    client.on_message = on_message
    subscribed = threading.Event()
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.subscribe([(topic, 1) for topic in topics])
    subscribed.wait(10.0)
    return client


def _receive(wire: socket.socket, into: memoryview) -> None:
    while into:
        into = into[wire.recv_into(into) :]


def _connected(port: int) -> socket.socket:
    until = time.monotonic() + 20.0
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


def main(role: str, kind: str, address: str, elements: int, devices: int, rounds: int, number: int) -> None:
    """One process of one floor; ``address`` is a URL with a port."""
    port = urlsplit(address).port or 1883
    meter = RoundMeter()
    if role == "server":
        serve = tcp_server if kind == "tcp" else mqtt_server
        serve(port, elements, devices, rounds, meter)
    else:
        join = tcp_client if kind == "tcp" else mqtt_client
        join(port, elements, rounds, number, meter)
    meter.report()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], *(int(word) for word in sys.argv[4:8]))
