"""Serves the current version of every unit of the model, and the ONNX files at the end.

Each changed unit is broadcast once on its own topic, whoever listens; a version that was broadcast before
is never broadcast again. A new model goes out ahead of the tasks that name it, unit by unit as it is packed, while the
coordinator writes its checkpoint: should it die before it has, its next life makes the same model again. Devices ask
for the chunks that they miss, and those go to them alone, a slice at a time.

One chunk after the other must leave even the slowest link room for other messages, so the slowest of those who listen
decides the size of the chunks, unit by unit: a slow device that holds two layers of ten does not slow the others down.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from coordinator.fleet.link_rates import Links, UnknownLinks
from coordinator.transfer.broadcast import Broadcast
from coordinator.transfer.flow_limits import FlowLimits
from coordinator.transfer.lost_repeats import LostRepeats
from fedlp_edge.core.algorithm.aggregation import Array
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.settings import BroadcastEncoding
from fedlp_edge.reporting.summary import Purpose
from fedlp_edge.transport.windowed_publisher import WindowedPublisher
from fedlp_edge.wire.broadcast_encoding import encode_weights
from fedlp_edge.wire.chunks import PACKET_ROOM, chunk_bytes_for_link, chunk_count, piece_count, split
from fedlp_edge.wire.digests import digest_of
from fedlp_edge.wire.messages import Progress, UnitRequest, UnitVersion
from fedlp_edge.wire.ranges import Ranges, clip, take
from fedlp_edge.wire.tensors import pack
from fedlp_edge.wire.topics import Topics

log = logging.getLogger("fedlp.coordinator")

SILENT_LIMIT = (
    "%s got nothing until it came in messages of %d bytes: the broker drops longer ones, or they take too long. "
    "All are that short from here on. A limit of the broker belongs into [broker]: max_packet_bytes = %d "
    "(fedlp doctor broker finds it)"
)


@dataclass
class _Blob:
    """One version of a unit or a file, with its bytes.

    Attributes:
        broadcast: Whether the unit was broadcast, or is being broadcast.
        named: Tasks name it.
        cut: Devices may know the size of its chunks.
        under_way: Chunks of the broadcast that wait for the broker to take them.
    """

    version: UnitVersion
    payload: bytes
    broadcast: bool = False
    named: bool = False
    cut: bool = False
    under_way: int = 0

    @property
    def count(self) -> int:
        return chunk_count(self.version.size, self.version.chunk_bytes)


class ModelServer:
    """The versions and bytes of everything that devices may download.

    Args:
        topics: Topics of the fleet.
        publisher: Sends the chunks.
        chunk_bytes: Most payload bytes of a chunk.
        count: Function that is called with (purpose, bytes) for each chunk; the purposes are ``model`` and ``repeat``.
        flow: Limits on the chunks in flight.
        clock: Monotonic seconds.
        links: Link rates of those who listen; unknown by default.

    Attributes:
        encoding: Encoding in which weights travel.
    """

    def __init__(
        self,
        topics: Topics,
        publisher: WindowedPublisher,
        chunk_bytes: int,
        count: Callable[[Purpose, int], None],
        flow: FlowLimits,
        clock: Callable[[], float],
        links: Links | None = None,
    ) -> None:
        self.encoding: BroadcastEncoding = "none"
        self._topics = topics
        self._publisher = publisher
        self._chunk_bytes = chunk_bytes
        self._most: int | None = None
        self._vain = LostRepeats()
        self._count = count
        self._flow = flow
        self._blobs: dict[str, _Blob] = {}
        self._links = links or UnknownLinks()
        self._broadcast = Broadcast(flow, self._send_part, clock, self._links)

    def put_weights(
        self,
        blueprint: Blueprint,
        weights: Mapping[str, Array],
        ahead: Collection[str] = frozenset(),
    ) -> None:
        """Takes a new global model; units whose bytes are unchanged keep their version.

        Args:
            blueprint: Blueprint of the model.
            weights: Weights of all its units, in full precision.
            ahead: Units to broadcast at once, provided that the whole model fits into the window, so that nobody need
                be waited for.
        """
        for unit in blueprint.global_units:
            self.put(unit.id, encode_weights(unit.tensors, weights, self.encoding), self.encoding)
            if unit.id in ahead and self._fits(blueprint):
                self._send_ahead(unit.id)

    def put_constants(self, blueprint: Blueprint, constants: Mapping[str, Array]) -> None:
        """Takes the constants of the model, one blob for each unit, which a device requests once."""
        for unit in blueprint.global_units:
            if unit.constants:
                self.put(unit.fixed.id, pack({tensor.name: constants[tensor.name] for tensor in unit.constants}))

    def put(self, unit: str, payload: bytes, encoding: BroadcastEncoding = "none") -> UnitVersion:
        """Takes one blob of weights in an encoding, or of anything else; returns its version."""
        digest = digest_of(payload)
        known = self._blobs.get(unit)
        if known is None or known.version.digest != digest:
            version = UnitVersion(unit, digest, len(payload), self._chunk_bytes, encoding)
            self._blobs[unit] = _Blob(version, payload)
        return self._blobs[unit].version

    def narrow(self, most: int) -> None:
        """The broker turns out to carry no more payload than this: versions from here on have such chunks, those that
        are out already go in pieces.
        """
        self._most = min(most, self._most or most)
        self._chunk_bytes = min(self._chunk_bytes, most)

    def versions(self, units: Iterable[str]) -> tuple[UnitVersion, ...]:
        """Returns current versions in the order asked for; the size of their chunks does not change from then on."""
        return tuple(self._cut(unit).version for unit in units)

    def new(self, units: Iterable[str]) -> int:
        """Returns the bytes of those of these units whose current version was not broadcast yet."""
        return sum(blob.version.size for unit in units if not (blob := self._blobs[unit]).named)

    def broadcast(self, readers: Mapping[str, Collection[str]]) -> None:
        """Sends every unit whose current version was not broadcast yet; does nothing if all were.

        Args:
            readers: The devices that need a unit, by unit, in the order in which the units are sent.
        """
        new = [(unit, blob) for unit in readers if not (blob := self._cut(unit)).broadcast]
        for unit in readers:
            self._blobs[unit].named = self._blobs[unit].broadcast = True
        if new:
            self._broadcast.start([(blob.version, readers[unit]) for unit, blob in new])

    def received_all(self, device: str) -> None:
        """Notes that a device has everything that it asked for."""
        most = self._vain.received_all(device)
        if most is not None and most < (self._most or self._chunk_bytes):
            log.warning(SILENT_LIMIT, device, most, most + PACKET_ROOM)
            self.narrow(most)

    def reported(self, message: Progress) -> None:
        """Takes a device's report that the chunks which were broadcast so far have arrived."""
        self._broadcast.reported(message)

    def gone(self, device: str) -> None:
        """Notes that a device is offline, so that nothing waits for it."""
        self._broadcast.gone(device)
        self._vain.gone(device)

    def tick(self) -> None:
        """Does what is due at this time."""
        self._broadcast.tick()

    def repeat(self, request: UnitRequest) -> bool:
        """Sends a device the chunks that it lacks; returns False if the version is not the current one."""
        blob = self._blobs.get(request.unit)
        if blob is None or blob.version.digest != request.digest:
            return False
        # What the broadcast has not reached yet, or the broker has not taken yet, is not missing.
        reached = blob.count - self._broadcast.pending(request.digest) - blob.under_way
        missing = clip(request.missing, reached)
        if not missing:
            return True
        most = self._vain.most(request, self._message_bytes(blob.version, request.device))
        chunks = max(1, self._flow.repeat // piece_count(blob.version.chunk_bytes, most))
        wanted, _ = take(missing, chunks)
        purpose: Purpose = "repeat" if blob.broadcast else "direct"
        self._push(self._topics.of("repeat", request.device), blob, wanted, purpose, report=True, most=most)
        return True

    def _message_bytes(self, version: UnitVersion, device: str) -> int:
        """Returns the payload bytes of a message that the broker carries, and a device's link carries soon enough."""
        rate = self._links.rate(device)
        usual = min(version.chunk_bytes, self._most or version.chunk_bytes)
        return usual if rate is None else chunk_bytes_for_link(usual, rate)

    def _cut(self, unit: str) -> _Blob:
        """Returns the blob in chunks of a size that suits all who listen; the size stays once a device may know it."""
        blob = self._blobs[unit]
        if not blob.cut:
            rate = self._links.slowest(unit)
            chunk_bytes = self._chunk_bytes if rate is None else chunk_bytes_for_link(self._chunk_bytes, rate)
            blob.version = msgspec.structs.replace(blob.version, chunk_bytes=chunk_bytes)
            blob.cut = True
        return blob

    def _fits(self, blueprint: Blueprint) -> bool:
        window = self._flow.broadcast
        blobs = [self._cut(unit.id) for unit in blueprint.global_units if unit.id in self._blobs]
        chunks = sum(blob.count for blob in blobs)
        if self._most is not None and any(blob.version.chunk_bytes > self._most for blob in blobs):
            return False  # what goes in pieces, nobody can use before it is named
        return len(blobs) == len(blueprint.global_units) and (window is None or chunks <= window)

    def _send_ahead(self, unit: str) -> None:
        blob = self._cut(unit)
        if not blob.broadcast:
            blob.broadcast = True
            self._push(self._topics.of("model", unit), blob, ((0, blob.count),), "model", report=False)

    def _send_part(self, version: UnitVersion, start: int, stop: int, report: bool, done: Callable[[], None]) -> None:
        topic, which = self._topics.of("model", version.unit), ((start, stop),)
        blob = self._blobs[version.unit]
        if blob.version != version:
            done()  # replaced before all of it was sent; whoever has a part of it gets a new task
            return
        self._push(topic, blob, which, "model", report=report, key=f"{topic} {start}", done=done)

    def _push(
        self,
        topic: str,
        blob: _Blob,
        which: Ranges,
        purpose: Purpose,
        *,
        report: bool,
        key: str = "",
        most: int | None = None,
        done: Callable[[], None] = lambda: None,
    ) -> None:
        version, most = blob.version, most or self._most
        left = sum(
            piece_count(min(version.chunk_bytes, version.size - index * version.chunk_bytes), most)
            for start, stop in which
            for index in range(start, stop)
        )

        def sent(nbytes: int) -> None:
            nonlocal left
            left -= 1
            self._count(purpose, nbytes)
            if not left:
                done()

        def taken() -> None:
            if purpose == "model":
                blob.under_way -= 1

        if purpose == "model":
            blob.under_way += left
        chunks = split(blob.payload, version.digest, version.chunk_bytes, which, most=most, report=report)
        self._publisher.push(topic, chunks, key=key or f"{topic} {blob.version.unit}", sent=sent, taken=taken)
