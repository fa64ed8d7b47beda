"""What goes out on which topic, and how much at a time."""

from __future__ import annotations

from collections import Counter

import numpy as np

from coordinator.transfer.flow_limits import FlowLimits
from coordinator.transfer.model_server import ModelServer
from fedlp_edge.transport.base import Delivered, Received, TransportEvent
from fedlp_edge.transport.in_memory import MemoryHub
from fedlp_edge.transport.windowed_publisher import WindowedPublisher
from fedlp_edge.wire.chunks import Chunk
from fedlp_edge.wire.messages import Progress, UnitRequest
from fedlp_edge.wire.topics import Topics
from tests.coordinator.fleets import NAMES, tiny_blueprint

TOPICS = Topics("f")
Arrival = tuple[str, int, bool]


class ListenedServer:
    """A model server, and a listener to all that it sends."""

    def __init__(self, flow: FlowLimits) -> None:
        self.flow = flow
        self.hub = hub = MemoryHub()
        transport = hub.transport("coordinator")
        self.publisher = WindowedPublisher(transport, window=1000)
        self.traffic: Counter[str] = Counter()
        self.arrived: list[Arrival] = []
        listener = hub.transport("listener")
        listener.start(self._receive)
        listener.subscribe("fedlp/f/#")
        transport.start(lambda event: self.publisher.delivered(event.token) if isinstance(event, Delivered) else None)
        self.model_server = ModelServer(
            TOPICS, self.publisher, 10, lambda purpose, nbytes: self.traffic.update([purpose]), flow, lambda: 0
        )

    def _receive(self, event: TransportEvent) -> None:
        if isinstance(event, Received):
            chunk = Chunk.parse(event.payload)
            self.arrived.append((event.topic.removeprefix("fedlp/f/"), chunk.index, chunk.report))

    def take(self) -> list[Arrival]:
        self.hub.deliver()
        taken, self.arrived = self.arrived, []
        return taken

    def request(self, unit: str, *missing: tuple[int, int]) -> bool:
        (version,) = self.model_server.versions([unit])
        return self.model_server.repeat(
            UnitRequest(run="r", device="a", unit=unit, digest=version.digest, missing=missing)
        )


def test_broadcasts_a_version_once() -> None:
    server = ListenedServer(FlowLimits(None, 64, 64))
    server.model_server.put("L1", b"x" * 25)
    server.model_server.broadcast({"L1": ["a"]})
    assert server.take() == [("model/L1", 0, False), ("model/L1", 1, False), ("model/L1", 2, False)]
    server.model_server.put("L1", b"x" * 25)
    server.model_server.put("L2", b"y")
    server.model_server.broadcast({"L1": ["a"], "L2": ["a"]})
    assert server.take() == [("model/L2", 0, False)]
    assert server.traffic == {"model": 4}


def test_broadcasts_slice_by_slice_as_readers_report() -> None:
    server = ListenedServer(FlowLimits(4, 64, 64))
    version = server.model_server.put("L1", b"x" * 60)
    server.model_server.broadcast({"L1": ["a"]})
    assert [(index, asks) for _, index, asks in server.take()] == [(0, False), (1, True), (2, False), (3, True)]
    server.model_server.reported(Progress(run="r", device="a", unit="L1", blob=version.digest[:32], index=1))
    assert [(index, asks) for _, index, asks in server.take()] == [(4, False), (5, True)]


def test_repeats_a_slice_and_asks_how_it_stands() -> None:
    server = ListenedServer(FlowLimits(None, 3, 64))
    server.model_server.put("L1", b"x" * 90)
    assert server.request("L1", (2, 4), (6, 9))
    assert server.take() == [("repeat/a", 2, False), ("repeat/a", 3, False), ("repeat/a", 6, True)]
    assert server.traffic == {"direct": 3}


def test_counts_as_repeated_only_what_was_broadcast_before() -> None:
    server = ListenedServer(FlowLimits(None, 3, 64))
    server.model_server.put("L1", b"x" * 20)
    server.model_server.put("onnx-1", b"y" * 20)
    server.model_server.broadcast({"L1": ["a"]})
    server.take()
    assert server.request("L1", (0, 1))
    assert server.request("onnx-1", (0, 2))
    server.take()
    assert server.traffic == {"model": 2, "repeat": 1, "direct": 2}


def test_repeats_nothing_that_the_broadcast_will_still_bring() -> None:
    server = ListenedServer(FlowLimits(4, 64, 64))
    server.model_server.put("L1", b"x" * 90)
    server.model_server.broadcast({"L1": ["a"]})
    server.take()
    assert server.request("L1", (3, 9))
    assert server.take() == [("repeat/a", 3, True)]


def test_refuses_to_repeat_an_old_version() -> None:
    server = ListenedServer(FlowLimits(None, 64, 64))
    old = server.model_server.put("L1", b"x" * 90)
    server.model_server.put("L1", b"y" * 90)
    assert not server.model_server.repeat(
        UnitRequest(run="r", device="a", unit="L1", digest=old.digest, missing=((0, 9),))
    )


def test_sends_a_new_model_ahead_of_its_tasks_and_never_again() -> None:
    server = ListenedServer(FlowLimits(100, 64, 64))
    blueprint = tiny_blueprint()
    old = {name: np.zeros(2, np.float32) for name in NAMES.values()}
    server.model_server.put_weights(blueprint, old)
    server.model_server.broadcast({"L1": ["a"], "H1": ["a"]})
    server.take()
    server.model_server.put_weights(blueprint, {**old, NAMES["L1"]: np.ones(2, np.float32)}, ahead={"L1", "H1"})
    assert {topic for topic, _, _ in server.take()} == {"model/L1"}
    assert server.model_server.new(["L1", "H1"]) == server.model_server.versions(["L1"])[0].size
    server.model_server.broadcast({"L1": ["a"], "H1": ["a"]})
    assert server.take() == []
    assert server.model_server.new(["L1", "H1"]) == 0


def test_sends_nothing_ahead_of_a_model_that_readers_must_be_waited_for() -> None:
    server = ListenedServer(FlowLimits(8, 64, 64))
    server.model_server.put_weights(
        tiny_blueprint(), {name: np.zeros(2, np.float32) for name in NAMES.values()}, ahead={"L1"}
    )
    assert server.take() == []
    server.model_server.put_weights(
        tiny_blueprint(), {name: np.ones(2, np.float32) for name in NAMES.values()}, ahead={"L1"}
    )
    assert server.take() == []


class Rates:
    """Links whose rates a test says."""

    def __init__(self, slowest: float | None = None, **rates: float) -> None:
        self.slowest_rate = slowest
        self.rates = rates

    def rate(self, device: str) -> float | None:
        return self.rates.get(device)

    def slowest(self, unit: str) -> float | None:
        return None if unit == "H1" else self.slowest_rate


def slow_desk(links: Rates) -> ListenedServer:
    server = ListenedServer(FlowLimits(None, 64, 64))
    server.model_server = ModelServer(TOPICS, server.publisher, 1 << 18, lambda *_: None, server.flow, lambda: 0, links)
    return server


def test_slowest_listener_decides_how_a_unit_is_cut() -> None:
    server = slow_desk(Rates(slowest=2000.0))
    server.model_server.put("L1", b"x" * 9000)
    server.model_server.put("H1", b"x" * 9000)

    first, second = server.model_server.versions(["L1", "H1"])
    server.model_server.broadcast({"L1": ["a"], "H1": ["a"]})

    assert (first.chunk_bytes, second.chunk_bytes) == (2048, 1 << 18)
    assert [index for topic, index, _ in server.take() if topic == "model/L1"] == [0, 1, 2, 3, 4]


def test_size_of_chunks_stays_once_a_device_may_know_it() -> None:
    links = Rates()
    server = slow_desk(links)
    before = server.model_server.put("L1", b"x" * 9000)
    assert server.model_server.versions(["L1"]) == (before,)

    links.slowest_rate = 2000.0  # a slow device has come

    server.model_server.put("L1", b"x" * 9000)
    assert server.model_server.versions(["L1"]) == (before,)
    server.model_server.put("L1", b"y" * 9000)
    assert server.model_server.versions(["L1"])[0].chunk_bytes == 2048


def test_repeats_to_a_slow_device_in_pieces() -> None:
    server = slow_desk(Rates(a=2000.0))
    server.model_server.put("L1", b"x" * 9000)
    server.model_server.broadcast({"L1": ["b"]})
    assert [topic for topic, *_ in server.take()] == ["model/L1"]

    assert server.request("L1", (0, 1))

    assert [topic for topic, *_ in server.take()] == ["repeat/a"] * 5


def test_does_not_repeat_what_the_broker_has_not_taken_yet() -> None:
    server = ListenedServer(FlowLimits(None, 64, 64))
    server.model_server.put("L1", b"x" * 25)
    server.model_server.broadcast({"L1": ["a"]})

    for _ in range(5):  # nor does it take what it did not send for too long to arrive
        assert server.request("L1", (0, 3))  # a coordinator's own link may be the slow one
    assert server.take() == [("model/L1", 0, False), ("model/L1", 1, False), ("model/L1", 2, False)]

    assert server.request("L1", (0, 3))
    assert [topic for topic, *_ in server.take()] == ["repeat/a"] * 3
