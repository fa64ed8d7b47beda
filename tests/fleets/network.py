"""A whole fleet in threads over a real broker: the real services and MQTT, with workers that train nothing.

The same configuration as the fleets in virtual time, so both end with the same model.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

import msgspec

from coordinator.config import FleetConfig
from coordinator.inbox import InboxItem, StopRequested
from coordinator.service import Coordinator
from coordinator.transfer.messenger import last_will
from device_agent.protocol.events import Identity
from device_agent.protocol.presence import status
from device_agent.service import Agent, AgentSettings
from fedlp_edge.reporting.events import AnyEvent
from fedlp_edge.reporting.summary import Summary, load
from fedlp_edge.storage.run_directory import RunDirectory
from fedlp_edge.transport.address import BrokerAddress
from fedlp_edge.transport.base import LastWill
from fedlp_edge.transport.mqtt.transport import MqttTransport
from fedlp_edge.wire.messages import encode
from fedlp_edge.wire.topics import Topics
from tests.fleets.standin import StandIn, profile_of

PATIENCE_SECONDS = 120.0


class NetworkFleet:
    """One run; a context manager that stops what still runs.

    Args:
        directory: for run directory and states.
        config: of the fleet; the broker in it is not used.
        urls: of the broker, by service; ``""`` for the others.
        width: numbers in a unit.
        columns: of the matrix that a unit is; 0 for a row.
        begin: called by the thread of a service before it begins, by service.
        worker: what a device trains with, by its name; a plain stand-in for the others.
    """

    def __init__(
        self,
        directory: Path,
        config: FleetConfig,
        urls: Mapping[str, str],
        *,
        width: int,
        columns: int = 0,
        begin: Mapping[str, Callable[[], None]] | None = None,
        worker: Mapping[str, type[StandIn]] | None = None,
    ) -> None:
        self.run = directory / "run"
        self.events: list[AnyEvent] = []
        self.trainings: dict[str, StandIn] = {}
        self._directory = directory
        self._config = config
        self._topics = Topics(config.fleet)
        self._urls = urls
        self._shape = {"width": width, "columns": columns}
        self._first = begin or {}
        self._worker = worker or {}
        self._inbox: queue.Queue[InboxItem] = queue.Queue()
        self._agents: dict[str, Agent] = {}
        self._results: dict[str, Future[bool]] = {}

    def start_all(self, devices: int) -> None:
        self._begin("coordinator", self._coordinator().run)
        for number in range(devices):
            name = f"dev-{number}"
            self._agents[name] = self._agent(name, f"{number + 1:04d}")
            self._begin(name, self._agents[name].run)

    def finish(self, patience: float = PATIENCE_SECONDS) -> Summary:
        """Waits until the coordinator and every device have ended by themselves."""
        for result in self._results.values():
            assert result.result(patience), self.events
        return load(self.run / "summary.json")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._inbox.put(StopRequested())
        for agent in self._agents.values():
            agent.stop()
        for result in self._results.values():
            result.exception(PATIENCE_SECONDS)

    def _begin(self, name: str, body: Callable[[], bool]) -> None:
        result = self._results[name] = Future[bool]()

        def live() -> None:
            try:
                self._first.get(name, lambda: None)()
                result.set_result(body())
            except BaseException as error:
                result.set_exception(error)

        threading.Thread(target=live, name=name, daemon=True).start()

    def _transport(self, name: str, session: str, will: LastWill) -> MqttTransport:
        address = BrokerAddress.parse(self._urls.get(name, self._urls[""]), {})
        return MqttTransport(address, f"{self._config.fleet}-{name}-{session}", will)

    def _coordinator(self) -> Coordinator:
        will = last_will(self._topics, self._config.run_name)
        return Coordinator(
            config=self._config,
            directory=RunDirectory.open(self.run),
            inbox=self._inbox,
            transport=self._transport("coordinator", "0", will),
            worker=StandIn(self._inbox.put, at_once, **self._shape),  # type: ignore[arg-type]
            emit=self.events.append,
        )

    def _agent(self, name: str, session: str) -> Agent:
        identity = Identity(self._topics, name, session)
        will = LastWill(self._topics.of("device", name), encode(status(identity, None)))

        def make_worker(sink: Callable[..., None]) -> Any:
            self.trainings[name] = self._worker.get(name, StandIn)(sink, at_once, **self._shape)
            return self.trainings[name]

        return Agent.open(
            AgentSettings(identity, "digits", self._directory / name, profile_of(name), once=True),
            self._transport(name, session, will),
            make_worker,
        )


def at_once(seconds: float, action: Callable[[], None]) -> None:
    """No job takes time."""
    del seconds
    action()


def named(config: FleetConfig, fleet: str) -> FleetConfig:
    """The same run of another fleet, so that several can share a broker."""
    return msgspec.structs.replace(config, fleet=fleet)
