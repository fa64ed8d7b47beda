from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from coordinator.rounds.tasks import Tasks
from coordinator.transfer.flow_limits import FlowLimits
from coordinator.transfer.messenger import ControlMessenger
from coordinator.transfer.model_server import ModelServer
from fedlp_edge.core.rounds.events import CohortMember
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.core.settings import ModelSettings, SchemeSettings, TrainingSettings
from fedlp_edge.storage.journal import Journal
from fedlp_edge.storage.run_directory import RunDirectory
from fedlp_edge.transport.base import Delivered, Received, TransportEvent
from fedlp_edge.transport.in_memory import MemoryHub
from fedlp_edge.transport.windowed_publisher import WindowedPublisher
from fedlp_edge.wire.messages import Task
from fedlp_edge.wire.topics import Topics
from tests.coordinator.fleets import NAMES, RUN, run_context

A, B = CohortMember("a", 1, 0.5, 10, 10, lpr_of={"L1": 1.0}), CohortMember("b", 2, 1.0, 30, 30, encoding="int8")


class Devices:
    """The tasks of a run of the tiny model, and the devices that they and the model are sent to."""

    def __init__(self, directory: Path, *, listeners: int = 2, **settings: object) -> None:
        self.tasks_heard: list[Task] = []
        self.units_heard: list[str] = []
        self.hub = MemoryHub()
        transport, topics = self.hub.transport("coordinator"), Topics("fleet")
        publisher = WindowedPublisher(transport, 1000)
        transport.start(lambda event: publisher.delivered(event.token) if isinstance(event, Delivered) else None)
        everybody = self.hub.transport("devices")
        everybody.start(self._receive)
        everybody.subscribe("fedlp/fleet/#")
        self.hub.deliver()
        where = RunDirectory.open(directory)
        messenger = ControlMessenger(transport, topics, RUN)
        context = replace(run_context(where, Journal.open(where.journal), **settings), messenger=messenger)
        self.server = ModelServer(topics, publisher, 1000, lambda *_: None, FlowLimits(None, 8, 8), lambda: 0.0)
        self.server.put_weights(context.blueprint, {name: np.ones(2, np.float32) for name in NAMES.values()})
        self.tasks = Tasks(context, self.server, 512, lambda: listeners)

    def _receive(self, event: TransportEvent) -> None:
        if isinstance(event, Received):
            branch, leaf = Topics("fleet").parse(event.topic)
            if branch == "down":
                self.tasks_heard.append(msgspec.json.decode(event.payload, type=Task))
            elif branch == "model":
                self.units_heard.append(leaf)

    def hear(self) -> dict[str, Task]:
        """The tasks that came since the last call, by device."""
        self.hub.deliver()
        heard, self.tasks_heard = {task.device: task for task in self.tasks_heard}, []
        return heard


def test_tells_each_device_its_place_and_the_versions_that_it_needs(tmp_path: Path) -> None:
    devices = Devices(tmp_path)
    devices.tasks.give(3, [A, B], 60.0)
    heard = devices.hear()
    assert sorted(heard) == ["a", "b"]
    a, b = heard["a"], heard["b"]
    assert (a.run, a.round, a.depth, a.samples, a.lpr, a.lpr_of, a.encoding) == (
        "run",
        3,
        1,
        10,
        0.5,
        {"L1": 1.0},
        "none",
    )
    assert (b.depth, b.lpr, b.encoding, b.deadline_seconds, b.chunk_bytes) == (2, 1.0, "int8", 60.0, 512)
    assert a.manifest == devices.server.versions(["L1", "H1"])
    assert b.manifest == devices.server.versions(["L1", "L2", "H2"])


def test_broadcasts_once_what_somebody_needs(tmp_path: Path) -> None:
    devices = Devices(tmp_path)
    devices.tasks.give(1, [A], 60.0)
    devices.hear()
    assert sorted(devices.units_heard) == ["H1", "L1"]
    devices.tasks.give(2, [A, B], 60.0)
    devices.hear()
    assert sorted(devices.units_heard) == ["H1", "H2", "L1", "L2"]


def test_names_the_periods_of_the_units_that_a_device_holds(tmp_path: Path) -> None:
    devices = Devices(tmp_path, scheme=SchemeSettings(exchange_every={"L1": 2, "L2": 3}))
    devices.tasks.give(1, [A, B], 60.0)
    heard = devices.hear()
    assert heard["a"].exchange_every == {"L1": 2}
    assert heard["b"].exchange_every == {"L1": 2, "L2": 3}


def test_lets_devices_wait_longer_where_many_hear_the_broadcast(tmp_path: Path) -> None:
    patience = {}
    for number, listeners in enumerate((1, 1_000_000, 1_000_000_000)):
        devices = Devices(tmp_path / str(number), listeners=listeners, rounds=RoundSettings(deadline_seconds=60.0))
        devices.tasks.give(1, [B], 60.0)
        first = devices.hear()["b"].patience_seconds
        devices.tasks.give(2, [B], 60.0)
        patience[listeners] = (first, devices.hear()["b"].patience_seconds)
    # Three units of 80 bytes at 50 MB/s, at the most a quarter of a round; nothing of them is new in round 2.
    assert patience == {1: (0.5, 0.5), 1_000_000: (4.8, 0.5), 1_000_000_000: (15.0, 0.5)}


def test_tells_one_device_again_without_another_broadcast(tmp_path: Path) -> None:
    devices = Devices(tmp_path)
    devices.tasks.give(1, [A], 60.0)
    first = devices.hear()["a"]
    devices.units_heard.clear()
    devices.tasks.tell(1, A, 20.0)
    assert devices.hear() == {"a": msgspec.structs.replace(first, deadline_seconds=20.0)}
    assert devices.units_heard == []


def test_tells_the_step_size_of_the_round(tmp_path: Path) -> None:
    schedule = TrainingSettings(lr=0.8, schedule="step", step_every=2, step_factor=0.5, clip_norm=1.0)
    devices = Devices(tmp_path, training=schedule, rounds=RoundSettings(count=9))
    rates = []
    for round in (2, 3, 5):
        devices.tasks.tell(round, A, 60.0)
        training = devices.hear()["a"].training
        assert (training.schedule, training.clip_norm) == ("constant", 1.0)
        rates.append(training.lr)
    assert rates == [0.8, 0.4, 0.2]


def test_tells_devices_by_what_exported_models_are_judged(tmp_path: Path) -> None:
    devices = Devices(tmp_path, model=ModelSettings(exits="all"))
    devices.tasks.give(3, [A], 60.0)
    assert devices.hear()["a"].answer == "mean"
