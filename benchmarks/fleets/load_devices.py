"""Hundreds of devices in one process: the protocol whole, the training left out.

Each device is the agent's own state machine (``device_agent.protocol.machine``) on an MQTT connection of its own. Only
what would need a machine per device is shared: the bytes of the model are kept once for all, though each device
keeps its own account of the chunks that it received, and the update is a constant, made once per constant.

``python -m benchmarks.fleets.load_devices '<Load as JSON>'``; ends when the run is over and prints ``Tally`` as JSON.
"""

from __future__ import annotations

import heapq
import secrets
import selectors
import sys
import time
from collections import Counter, deque
from functools import cache
from itertools import count
from pathlib import Path
from typing import NamedTuple
from weakref import WeakValueDictionary

import msgspec
import numpy as np

from benchmarks.fleets.lean_mqtt import KEEPALIVE_SECONDS, Connection
from device_agent.protocol.events import (
    BuildModel,
    ChunkDelivered,
    DeviceMeasured,
    Effect,
    Event,
    ForgetUpdate,
    Identity,
    Leave,
    Log,
    ModelBuilt,
    Publish,
    RoundTrained,
    SendChunk,
    Stop,
    Subscribe,
    Tick,
    TrainRound,
    Unsubscribe,
)
from device_agent.protocol.machine import DeviceProtocol, DeviceStores, ProtocolOptions
from device_agent.protocol.presence import status
from device_agent.protocol.update import Update, UpdateId
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.transport.base import Connected, Delivered, Disconnected, LastWill, Received, TransportEvent
from fedlp_edge.wire.admission import admit_unit
from fedlp_edge.wire.chunks import split
from fedlp_edge.wire.digests import digest_of
from fedlp_edge.wire.messages import Install, InstallReport, UnitPayload, UnitVersion, encode
from fedlp_edge.wire.tensors import pack
from fedlp_edge.wire.topics import Topics

CONSTANTS = 16
"""Different deltas; multiples of a power of two, so that the expected model can be computed exactly."""

RECONNECT_SECONDS = 1.0


class Load(msgspec.Struct, frozen=True):
    """What one process is to be.

    Attributes:
        first: number of its first device.
        devices: how many.
        blueprint: file of the model's blueprint.
    """

    host: str
    port: int
    fleet: str
    first: int
    devices: int
    blueprint: str


class Tally(msgspec.Struct, kw_only=True):
    """What the devices of one process saw, in bytes of payload.

    Attributes:
        broadcast: on ``model/*`` by the device that received most: what was published, if nobody missed it.
        repeats: on ``repeat/*``, all devices together.
        control_down: control messages to all devices.
        control_up: control messages of all devices.
        sent: how many control messages of each kind they sent.
        losses: connections that were lost.
        warnings: how often each warning was noted.
    """

    broadcast: int = 0
    repeats: int = 0
    control_down: int = 0
    control_up: int = 0
    sent: dict[str, int] = msgspec.field(default_factory=Counter)
    losses: int = 0
    warnings: dict[str, int] = msgspec.field(default_factory=Counter)


def constant_of(number: int) -> float:
    """Every element of the delta of a device."""
    return (1 + number % CONSTANTS) * 2.0**-12


def samples_of(number: int) -> int:
    """What the update of a device weighs."""
    return 100 + number % 10


# What the devices of one process share


class _Blob:
    """One version of a unit, written by whichever device gets a chunk first."""

    def __init__(self, size: int) -> None:
        self.buffer = bytearray(size)
        self._digest: str | None = None

    def write(self, offset: int, data: bytes | memoryview) -> None:
        if self._digest is None:
            self.buffer[offset : offset + len(data)] = data

    def extents(self) -> list[tuple[int, int]]:
        return []

    def digest(self) -> str:
        # Only a device that has every chunk asks. Hashing again for each one would measure this program.
        if self._digest is None:
            self._digest = digest_of(self.buffer)
        return self._digest

    def close(self) -> None:
        pass


_shared: WeakValueDictionary[str, _Blob] = WeakValueDictionary()


class SharedStore:
    """A device's ``BlobStore``: which units it holds is its own, their bytes are everybody's."""

    def __init__(self) -> None:
        self._held: dict[str, _Blob] = {}
        self._begun: dict[str, _Blob] = {}

    def has(self, digest: str) -> bool:
        return digest in self._held

    def begin(self, version: UnitVersion) -> _Blob:
        blob = _shared.get(version.digest)
        if blob is None:
            blob = _shared[version.digest] = _Blob(version.size)
        self._begun[version.digest] = blob
        return blob

    def rename(self, version: UnitVersion, known: UnitVersion) -> None:
        blob = self._begun[known.digest] = self._begun.pop(version.digest)
        if len(blob.buffer) > known.size:  # the first device to know cuts it for all of them
            del blob.buffer[known.size :]
        _shared.setdefault(known.digest, blob)

    def written(self, version: UnitVersion) -> memoryview:
        return memoryview(self._begun[version.digest].buffer)

    def keep(self, version: UnitVersion) -> None:
        self._held[version.digest] = self._begun.pop(version.digest)

    def discard(self, version: UnitVersion) -> None:
        self._begun.pop(version.digest, None)

    def keep_only(self, versions: tuple[UnitVersion, ...]) -> None:
        digests = {version.digest for version in versions}
        self._held = {digest: blob for digest, blob in self._held.items() if digest in digests}


class Deltas:
    """The updates: one blob per constant and selection, cut into chunks, sent by every device that has it."""

    def __init__(self, blueprint: Blueprint) -> None:
        self._blueprint = blueprint
        self._made = cache(self._make)

    def update(self, number: int, effect: TrainRound) -> tuple[Update, list[bytes]]:
        """What the device would have trained."""
        task = effect.task
        chosen = tuple((unit, effect.sent[unit]) for unit in effect.order if unit in effect.sent)
        digest, size, units, chunks = self._made(number % CONSTANTS, chosen, task.chunk_bytes)
        update = Update(
            run=task.run,
            round=task.round,
            device=task.device,
            fingerprint=effect.fingerprint,
            digest=digest,
            size=size,
            units=units,
            samples=samples_of(number),
            loss=0.0,
            seconds=0.0,
            bytes_down=effect.bytes_down,
            peak_memory=0,
            chunk_bytes=task.chunk_bytes,
        )
        return update, chunks

    def _make(
        self, number: int, chosen: tuple[tuple[str, tuple[str, ...]], ...], chunk_bytes: int
    ) -> tuple[str, int, tuple[UnitPayload, ...], list[bytes]]:
        parts, units, offset = [], [], 0
        for unit, names in chosen:
            shapes = {tensor.name: tensor.shape for tensor in self._blueprint.by_id[unit].tensors}
            part = pack({name: np.full(shapes[name], constant_of(number), np.float32) for name in names})
            parts.append(part)
            units.append(UnitPayload(unit, offset, len(part)))
            offset += len(part)
        blob = b"".join(parts)
        digest = digest_of(blob)
        return digest, offset, tuple(units), list(split(blob, digest, chunk_bytes))


# One device


class _Sent(NamedTuple):
    topic: str
    payload: bytes
    retain: bool
    chunk: ChunkDelivered | None = None


class NoReleases:
    """Devices that install no release."""

    trying: Install | None = None

    def last_word(self, install: Install) -> InstallReport | None:
        del install
        return None

    def problem(self, install: Install, missing: int) -> str:
        del install, missing
        return "this device installs nothing"


class Device:
    """A participant, its connection, and what it holds.

    Args:
        load: the process.
        number: of the device.
        blueprint: of the model.
        deltas: makes its updates.
        tally: counts.
    """

    def __init__(self, load: Load, number: int, blueprint: Blueprint, deltas: Deltas, tally: Tally) -> None:
        topics = Topics(load.fleet)
        self.identity = Identity(topics, f"device-{number:04d}", f"{time.time_ns():020d}-{number:04d}")
        self.connection: Connection | None = None
        self.stopped = False
        self.scheduled: float | None = None
        self._load = load
        self._number = number
        self._blueprint = blueprint
        self._deltas = deltas
        self._tally = tally
        self._broadcast = 0
        self._topics: dict[str, None] = {}
        self._store = SharedStore()
        self._chunks: dict[UpdateId, list[bytes]] = {}
        self._unanswered: dict[int, _Sent] = {}
        self._again: list[_Sent] = []
        options = ProtocolOptions(
            allow_models=frozenset({blueprint.model}),
            once=True,
            measure_link=False,
            use_echoes=False,  # thousands of echoes would say nothing of a link, and take its bytes
        )
        self._machine = DeviceProtocol(
            self.identity,
            DeviceStores(
                self._store, self._admit, SharedStore(), lambda _version, _blob: None, SharedStore(), NoReleases()
            ),
            (),
            secrets.token_bytes,
            options,
        )
        for effect in self._machine.start():
            self._do(effect, deque())
        facts = DeviceFacts(
            profile="load",
            training_memory=1 << 40,
            training_macs_per_second=1e12,
            samples=samples_of(number),
        )
        self.handle(DeviceMeasured(facts))

    def connect(self) -> None:
        """Opens the connection; events follow once it stands.

        Raises:
            OSError: the broker cannot be reached.
        """
        will = LastWill(self.identity.topics.of("device", self.identity.device), encode(status(self.identity, None)))
        name = f"{self._load.fleet}-{self.identity.device}"
        self.connection = Connection(self._load.host, self._load.port, name, self._topics, will)

    def lose(self, reason: str) -> None:
        """The connection is gone."""
        if self.connection is not None:
            self.connection.abort()
        self.connection = None
        self._tally.losses += 1
        self._again = [*self._unanswered.values(), *self._again]
        self._unanswered.clear()
        self.handle(Disconnected(reason))

    def receive(self) -> None:
        """Takes what the broker sent.

        Raises:
            OSError: the connection is lost.
        """
        for event in self.connection.receive() if self.connection else ():
            self.handle(self._count(event))

    def next_wakeup(self) -> float | None:
        """When it wants a Tick."""
        return self._machine.next_wakeup()

    def handle(self, first: Event | TransportEvent) -> None:
        """Takes an event and does what follows."""
        events: deque[Event | TransportEvent] = deque([first])
        while events:
            event = events.popleft()
            if isinstance(event, Delivered):
                sent = self._unanswered.pop(event.token, None)
                if sent is None or sent.chunk is None:
                    continue
                event = sent.chunk
            if isinstance(event, Connected):
                again, self._again = self._again, []
                for sent in again:
                    self._publish(sent)
            for effect in self._machine.handle(event, time.monotonic()):
                self._do(effect, events)

    def _do(self, effect: Effect, events: deque[Event | TransportEvent]) -> None:
        match effect:
            case Publish(topic, message, retain):
                payload = encode(message)
                self._tally.control_up += len(payload)
                self._tally.sent[type(message).__name__] += 1
                self._publish(_Sent(topic, payload, retain))
            case Subscribe(topic):
                self._topics[topic] = None
                if self.connection is not None:
                    self.connection.subscribe(topic)
            case Unsubscribe(topic):
                self._topics.pop(topic, None)
                if self.connection is not None:
                    self.connection.unsubscribe(topic)
            case BuildModel(model):
                events.append(ModelBuilt(model, self._blueprint))
            case TrainRound():
                self._store.keep_only(effect.task.manifest)
                update, self._chunks[update.id] = self._deltas.update(self._number, effect)
                events.append(RoundTrained(update))
            case SendChunk(update, index):
                topic = self.identity.topics.of("upload", self.identity.device)
                self._publish(_Sent(topic, self._chunks[update][index], False, ChunkDelivered(update, index)))
            case ForgetUpdate(update):
                self._chunks.pop(update, None)
            case Log(text, True):
                self._tally.warnings[text.partition(":")[0]] += 1
            case Stop(error):
                self._leave(error)

    def _publish(self, sent: _Sent) -> None:
        """As the agent's transport does: what the broker has not acknowledged is sent again after a loss."""
        if self.connection is None:
            self._again.append(sent)
        else:
            token = self.connection.publish(sent.topic, sent.payload, retain=sent.retain)
            self._unanswered[token] = sent

    def _leave(self, error: str | None) -> None:
        if error:
            self._tally.warnings[error] += 1
        for effect in self._machine.handle(Leave(), time.monotonic()):
            self._do(effect, deque())
        self.stopped = True

    def _count(self, event: TransportEvent) -> TransportEvent:
        if isinstance(event, Received):
            branch, _ = self.identity.topics.parse(event.topic)
            size = len(event.payload)
            if branch == "model":
                self._broadcast += size
                self._tally.broadcast = max(self._tally.broadcast, self._broadcast)
            elif branch == "repeat":
                self._tally.repeats += size
            else:
                self._tally.control_down += size
        return event

    def _admit(self, version: UnitVersion, blob: memoryview) -> None:
        _admit_once(self._blueprint, version, blob)


_admitted: set[str] = set()


def _admit_once(blueprint: Blueprint, version: UnitVersion, blob: memoryview) -> None:
    if version.digest not in _admitted:
        admit_unit(blueprint.by_id[version.unit], version, blob)
        _admitted.add(version.digest)


# All of them


class Loop:
    """One selector and one heap of deadlines for all devices of the process."""

    def __init__(self, devices: list[Device]) -> None:
        self._selector = selectors.DefaultSelector()
        self._due: list[tuple[float, int, Device]] = []
        self._order = count()
        self._writing: set[Device] = set()
        self._left = set(devices)

    def run(self) -> None:
        """Until every device has left."""
        for device in list(self._left):
            self._connect(device)
        ping_at = time.monotonic() + KEEPALIVE_SECONDS / 2
        while self._left:
            now = time.monotonic()
            if now >= ping_at:
                ping_at = now + KEEPALIVE_SECONDS / 2
                self._ping()
            timeout = max(0.0, min(ping_at, self._due[0][0] if self._due else ping_at) - now)
            for key, mask in self._selector.select(timeout):
                self._serve(key.data, readable=bool(mask & selectors.EVENT_READ))
            self._tick()

    def _connect(self, device: Device) -> None:
        try:
            device.connect()
        except OSError:
            self._later(device, time.monotonic() + RECONNECT_SECONDS)
        else:
            self._selector.register(device.connection, selectors.EVENT_READ, device)  # type: ignore[arg-type]
            self._flush(device)

    def _serve(self, device: Device, *, readable: bool) -> None:
        try:
            if readable:
                device.receive()
            self._flush(device)
        except OSError as error:
            self._lose(device, error)
        self._settle(device)

    def _tick(self) -> None:
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            at, _, device = heapq.heappop(self._due)
            if device.scheduled != at or device not in self._left:
                continue
            device.scheduled = None
            if device.connection is None:
                self._connect(device)
            else:
                device.handle(Tick())
                self._serve(device, readable=False)
            self._settle(device)

    def _flush(self, device: Device) -> None:
        connection = device.connection
        if connection is None:
            return
        connection.send()
        if connection.wants_write != (device in self._writing):
            self._writing ^= {device}
            write = selectors.EVENT_WRITE if connection.wants_write else 0
            self._selector.modify(connection, selectors.EVENT_READ | write, device)

    def _settle(self, device: Device) -> None:
        """Lets a device go that is done, or notes when it wants to be asked again."""
        if device.stopped and device in self._left:
            self._left.remove(device)
            if device.connection is not None:
                self._selector.unregister(device.connection)
                device.connection.close()
            return
        due = device.next_wakeup()
        if due is not None and (device.scheduled is None or due < device.scheduled):
            self._later(device, due)

    def _later(self, device: Device, at: float) -> None:
        device.scheduled = at
        heapq.heappush(self._due, (at, next(self._order), device))

    def _lose(self, device: Device, error: OSError) -> None:
        if device.connection is not None:
            self._selector.unregister(device.connection)
        self._writing.discard(device)
        device.lose(str(error))
        self._later(device, time.monotonic() + RECONNECT_SECONDS)

    def _ping(self) -> None:
        for device in list(self._left):
            if device.connection is not None:
                device.connection.ping()
                self._serve(device, readable=False)


def main() -> None:
    """Plays the devices of one process."""
    load = msgspec.json.decode(sys.argv[1], type=Load)
    blueprint = msgspec.json.decode(Path(load.blueprint).read_bytes(), type=Blueprint)
    tally = Tally()
    deltas = Deltas(blueprint)
    numbers = range(load.first, load.first + load.devices)
    Loop([Device(load, number, blueprint, deltas, tally) for number in numbers]).run()
    sys.stdout.write(msgspec.json.encode(tally).decode() + "\n")


if __name__ == "__main__":
    main()
