"""A tiny fleet in literal values: two layers of a few numbers, a coordinator that is only messages."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np

from device_agent.protocol.coordinator_presence import CoordinatorPresence
from device_agent.protocol.events import Effects, Event, Identity, Publish, RoundTrained
from device_agent.protocol.machine import DeviceProtocol, DeviceStores, ProtocolOptions
from device_agent.protocol.round_task import fingerprint
from device_agent.protocol.update import Update
from fedlp_edge.core.blueprint import Blueprint, DepthCost, TensorSpec, Unit
from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.core.settings import ModelSettings, TrainingSettings
from fedlp_edge.transport.base import BrokerLimits, Connected, Received, Subscribed
from fedlp_edge.wire.admission import admit_unit
from fedlp_edge.wire.chunks import MemorySink, split
from fedlp_edge.wire.digests import digest_of
from fedlp_edge.wire.messages import (
    Announcement,
    Assignment,
    Install,
    InstallReport,
    Message,
    Task,
    UnitPayload,
    UnitVersion,
    encode,
)
from fedlp_edge.wire.tensors import pack
from fedlp_edge.wire.topics import Topics

TOPICS = Topics("demo")
ME = Identity(TOPICS, "pi", "0002-b")
FACTS = DeviceFacts(training_memory=1_000_000, training_macs_per_second=1e9, samples=100)
MODEL = ModelSettings(name="tiny", input=(2,), classes=2)
BROKER_LIMITS = BrokerLimits("memory", None, 100)


def unit(id: str, size: int) -> Unit:
    kind = "layer" if id[0] == "L" else "head"
    return Unit(id, id.lower(), kind, int(id[1:]), (TensorSpec(f"{id}.w", (size,), "trained"),))


BLUEPRINT = Blueprint(
    model="tiny",
    input_shape=(2,),
    classes=2,
    head_mode="shared",
    units=(unit("L1", 2), unit("L2", 3), unit("H1", 1), unit("H2", 4)),
    costs=(DepthCost(1, 3, 3, 8), DepthCost(2, 9, 9, 16)),
)


def blob(id: str, value: float = 1.0) -> bytes:
    """A unit whose numbers are all ``value``."""
    return pack({t.name: np.full(t.shape, value, np.float32) for t in BLUEPRINT.by_id[id].tensors})


def version(id: str, content: bytes, chunk_bytes: int = 40) -> UnitVersion:
    return UnitVersion(id, digest_of(content), len(content), chunk_bytes)


def chunks(content: bytes, chunk_bytes: int = 40) -> list[bytes]:
    return list(split(content, digest_of(content), chunk_bytes))


def announcement(run: str = "run", session: str = "s1", online: bool = True) -> Announcement:
    return Announcement(online=online, run=run, session=session, state="running" if online else "offline")


def assignment(depth: int = 1, digest: str | None = None, **changes: object) -> Assignment:
    return Assignment(
        **{
            "run": "run",
            "device": "pi",
            "model": MODEL,
            "blueprint_digest": digest or BLUEPRINT.digest,
            "depth": depth,
            **changes,
        }
    )


def task(round: int = 1, depth: int = 1, value: float = 1.0, **changes: object) -> Task:
    units = [u.id for u in BLUEPRINT.exchanged_by(depth)]
    return Task(
        **{
            "run": "run",
            "round": round,
            "device": "pi",
            "depth": depth,
            "seed": 1,
            "lpr": 1.0,
            "granularity": "layer",
            "prune": "upload",
            "training": TrainingSettings(),
            "manifest": tuple(version(u, blob(u, value)) for u in units),
            "deadline_seconds": 60.0,
            "chunk_bytes": 10,
            **changes,
        }
    )


def update(round: int = 1, run: str = "run", size: int = 25, fingerprint: str = "f") -> Update:
    content = bytes([round % 256]) * size
    return Update(
        run=run,
        round=round,
        device="pi",
        fingerprint=fingerprint,
        digest=digest_of(content),
        size=size,
        units=(UnitPayload("L1", 0, size),) if size else (),
        samples=100,
        loss=0.5,
        seconds=1.0,
        bytes_down=10,
        peak_memory=1000,
        chunk_bytes=10,
    )


def coordinator_of(run: str = "run") -> CoordinatorPresence:
    """A coordinator that is there, behind a connected broker."""
    coordinator = CoordinatorPresence()
    coordinator.broker_connected(BROKER_LIMITS, 0.0)
    coordinator.announce(announcement(run), 0.0)
    return coordinator


class MemoryStore:
    """A BlobStore without files."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.begun: dict[str, MemorySink] = {}

    def has(self, digest: str) -> bool:
        return digest in self.blobs

    def begin(self, version: UnitVersion) -> MemorySink:
        self.begun[version.digest] = MemorySink(version.size)
        return self.begun[version.digest]

    def written(self, version: UnitVersion) -> memoryview:
        return memoryview(self.begun[version.digest].buffer)

    def rename(self, version: UnitVersion, known: UnitVersion) -> None:
        sink = self.begun[known.digest] = self.begun.pop(version.digest)
        del sink.buffer[known.size :]

    def keep(self, version: UnitVersion) -> None:
        self.blobs[version.digest] = bytes(self.begun.pop(version.digest).buffer)

    def discard(self, version: UnitVersion) -> None:
        self.begun.pop(version.digest, None)


class Installation:
    """Facts about installations, in literal values."""

    last: InstallReport | None = None
    full = ""
    trying: Install | None = None

    def last_word(self, install: Install) -> InstallReport | None:
        return self.last

    def problem(self, install: Install, missing: int) -> str:
        return self.full


def numbered() -> Callable[[int], bytes]:
    """In place of random bytes: all different, too."""
    numbers = itertools.count()
    return lambda size: next(numbers).to_bytes(size)


class Device:
    """The protocol of a device with its stores, played by hand."""

    def __init__(self, updates: Iterable[Update] = (), *, measure_link: bool = False, **options: object) -> None:
        self.units, self.models, self.releases = MemoryStore(), MemoryStore(), MemoryStore()
        self.installation = Installation()
        self.machine = DeviceProtocol(
            ME,
            DeviceStores(
                self.units,
                lambda v, b: admit_unit(BLUEPRINT.by_id[v.unit], v, b),
                self.models,
                lambda v, b: None,
                self.releases,
                self.installation,
            ),
            updates,
            numbered(),
            ProtocolOptions(measure_link=measure_link, use_echoes=False, **options),
        )
        self.machine.start()

    def handle(self, event: Event, now: float = 0.0) -> Effects:
        return self.machine.handle(event, now)

    def receive(self, topic: str, payload: bytes | Message, now: float = 0.0, retained: bool = False) -> Effects:
        data = encode(payload) if isinstance(payload, Message) else payload
        return self.handle(Received(topic, data, retained), now)

    def down(self, message: Message, now: float = 0.0) -> Effects:
        return self.receive(TOPICS.of("down", "pi"), message, now)

    def model(self, id: str, content: bytes, now: float = 0.0) -> Effects:
        """All chunks of a unit, as broadcast."""
        effects: Effects = []
        for chunk in chunks(content):
            effects += self.receive(TOPICS.of("model", id), chunk, now)
        return effects

    def join(self, depth: int = 1) -> Device:
        """Up to Ready."""
        from device_agent.protocol.events import DeviceMeasured, ModelBuilt

        self.handle(Connected(BROKER_LIMITS))
        self.handle(DeviceMeasured(FACTS))
        self.receive(TOPICS.coordinator, announcement(), retained=True)
        self.down(assignment(depth))
        self.handle(ModelBuilt(MODEL, BLUEPRINT))
        for u in BLUEPRINT.exchanged_by(depth):
            self.handle(Subscribed(TOPICS.of("model", u.id)))
        return self


def published(effects: Effects) -> list[Any]:
    return [effect.message for effect in effects if isinstance(effect, Publish)]


T = TypeVar("T")


def only(effects: Effects, kind: type[T]) -> T:
    """The one effect of a kind."""
    (found,) = [effect for effect in effects if isinstance(effect, kind)]
    return found


def train(device: Device, round: int = 1, now: float = 0.0) -> Effects:
    """Gives a device a task and all that it needs for it."""
    effects = device.down(task(round), now)
    for id in ("L1", "H1"):
        effects += device.model(id, blob(id), now)
    return effects


def trained(device: Device, round: int = 1, now: float = 0.0) -> Effects:
    """Ends the training of a round; returns the effects of its end."""
    mark = fingerprint(task(round))
    return device.handle(RoundTrained(update(round, fingerprint=mark)), now)
