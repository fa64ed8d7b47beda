"""The parts of a run of the tiny model, as the service assembles them, on a broker in memory.

Time stands still unless a test moves it, the disk answers at once, and the worker process only takes orders.
"""

from __future__ import annotations

import dataclasses
import queue
from pathlib import Path

import msgspec
import numpy as np

from coordinator.background import Background, TaskFinished
from coordinator.fleet.fleet_classes import FleetClasses
from coordinator.inbox import InboxItem
from coordinator.run_context import RunContext
from coordinator.run_parts import RunParts, assemble
from coordinator.transfer.messenger import ControlMessenger
from fedlp_edge.core.algorithm.server_state import ServerState
from fedlp_edge.reporting.events import AnyEvent
from fedlp_edge.storage.journal import Journal
from fedlp_edge.storage.run_directory import RunDirectory
from fedlp_edge.transport.base import Received, TransportEvent
from fedlp_edge.transport.in_memory import MEMORY_LIMITS, MemoryHub
from fedlp_edge.wire.chunks import split
from fedlp_edge.wire.messages import Decoder, FromCoordinator, FromDevice, Offer, Ready, Status, encode
from fedlp_edge.wire.topics import Topics
from fedlp_edge.worker.jobs import AnyJob
from tests.coordinator.fleets import NAMES, RUN, facts, run_context
from tests.fleets.world import InTurn

TOPICS = Topics("fleet")


class Jobs:
    """A worker process that only takes orders.

    Attributes:
        given: Jobs in the order in which they were given; the number of the first is 1.
    """

    def __init__(self) -> None:
        self.given: list[AnyJob] = []

    def submit(self, job: AnyJob) -> int:
        self.given.append(job)
        return len(self.given)


class AssembledRun:
    """A run and what can be heard of it.

    Attributes:
        now: Seconds of the run's clock.
        parts: Parts of the run.
        inbox: What its transport brings.
        events: Events for people.
        jobs: Worker of the run.
        ends: Ends of what was done beside the loop.
    """

    def __init__(self, directory: Path, **settings: object) -> None:
        self.now = 0.0
        self.events: list[AnyEvent] = []
        self.inbox: queue.SimpleQueue[InboxItem] = queue.SimpleQueue()
        self.jobs = Jobs()
        self.ends: queue.SimpleQueue[TaskFinished] = queue.SimpleQueue()
        self.hub = MemoryHub(immediate=True)
        self.transport = self.hub.transport("coordinator")
        self.transport.start(self.inbox.put)
        self._heard: list[FromCoordinator] = []
        self._devices = self.hub.transport("devices")
        self._devices.start(self._hear)
        self._devices.subscribe(TOPICS.of("down", "+"))
        place = RunDirectory.open(directory)
        journal = Journal.open(place.journal)
        self.context: RunContext = dataclasses.replace(
            run_context(place, journal, **settings),
            messenger=ControlMessenger(self.transport, TOPICS, RUN),
            emit=self.events.append,
            clock=lambda: self.now,
        )
        blueprint, model = self.context.blueprint, self.context.config.model
        if not self.context.checkpoints.has(0):
            weights = {name: np.ones(2, np.float32) for name in NAMES.values()}
            self.context.checkpoints.save(0, weights, ServerState())
        self.parts: RunParts = assemble(
            self.context,
            FleetClasses(model, blueprint, journal, None, 1, self.context.clock),
            self.transport,
            MEMORY_LIMITS,
            self.jobs,  # type: ignore[arg-type]
            Background(InTurn(), self.ends.put),
        )

    def heard(self) -> list[FromCoordinator]:
        """What devices were told since the last call."""
        heard, self._heard = self._heard, []
        return heard

    def say(self, message: Status | FromDevice) -> None:
        """Has a device say something."""
        branch = "device" if isinstance(message, Status) else "up"
        self._devices.publish(TOPICS.of(branch, message.device), encode(message), retain=branch == "device")  # type: ignore[arg-type]

    def upload(self, offer: Offer, blob: bytes) -> None:
        """Has a device offer an update and send all of it, past the inbox."""
        self.parts.rounds.offered(offer)
        for chunk in split(blob, offer.digest, 1000):
            self.parts.rounds.chunk(offer.device, bytes(chunk))

    def join(self, *statuses: Status) -> None:
        """Brings devices into the fleet that hold what they were told to hold, past the inbox."""
        for said in statuses:
            self.parts.membership.reported(said)
        for member in self.parts.membership.all():
            ready = Ready(run=RUN, device=member.device, session=member.session, depth=member.plan.depth)
            if not member.ready and self.parts.membership.ready(ready) is member:
                self.parts.membership.join(member)

    def settle(self) -> None:
        """Has the loop take what was done beside it."""
        while not self.ends.empty():
            ended = self.ends.get()
            if ended.error is not None:
                raise ended.error
            ended.then()

    def kinds(self) -> list[str]:
        """Names of the events so far."""
        return [type(event).__name__ for event in self.events]

    def _hear(self, event: TransportEvent) -> None:
        if isinstance(event, Received):
            self._heard.append(_READ(event.payload))  # type: ignore[arg-type]


_READ = Decoder[FromCoordinator](FromCoordinator, 1 << 20)


def status(device: str, session: str = "s", *, revision: int = 0, **changes: object) -> Status:
    """What a device says of itself."""
    said = facts(**changes)  # type: ignore[arg-type]
    return Status(device=device, online=True, session=session, facts=said, revision=revision)


def gone(device: str, session: str = "s") -> Status:
    """What the broker says of a device that is gone."""
    return msgspec.structs.replace(status(device, session), online=False, facts=None)
