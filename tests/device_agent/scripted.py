"""A coordinator that follows a test's script: it sends what it is told to and waits for what must come."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import TypeVar

from fedlp_edge.transport.base import Received, TransportEvent
from fedlp_edge.transport.in_memory import MemoryHub
from fedlp_edge.wire.chunks import Assembly, Chunk, MemorySink, split
from fedlp_edge.wire.digests import digest_of
from fedlp_edge.wire.messages import (
    Announcement,
    Decoder,
    FromDevice,
    Grant,
    Message,
    Offer,
    Receipt,
    Status,
    UnitRequest,
    UnitVersion,
    encode,
)
from fedlp_edge.wire.topics import Topics

M = TypeVar("M", bound=Message)

PATIENCE = 60.0
"""Seconds after which what must come is taken to be lost; nothing waits this long when all is well."""

_from_device = Decoder[FromDevice](FromDevice, 1 << 20)
_status = Decoder[Status](Status, 1 << 20)


class ScriptedCoordinator:
    """Plays the coordinator of one fleet with one device.

    Args:
        hub: where the fleet meets.
        topics: of the fleet.
        device: id of the device.
    """

    def __init__(self, hub: MemoryHub, topics: Topics, device: str) -> None:
        self._topics = topics
        self._device = device
        self._inbox: queue.SimpleQueue[TransportEvent] = queue.SimpleQueue()
        self._transport = hub.transport("coordinator")
        self._transport.start(self._inbox.put)
        self._blobs: dict[str, tuple[UnitVersion, bytes]] = {}
        for branch in ("device", "up", "upload"):
            self._transport.subscribe(topics.of(branch, "+"))

    def announce(self, run: str, session: str) -> None:
        message = Announcement(online=True, run=run, session=session, state="running")
        self._transport.publish(self._topics.coordinator, encode(message), retain=True)

    def tell(self, message: Message) -> None:
        self._transport.publish(self._topics.of("down", self._device), encode(message))

    def put(self, unit: str, blob: bytes, chunk_bytes: int) -> UnitVersion:
        """Has a blob ready for requests."""
        version = UnitVersion(unit, digest_of(blob), len(blob), chunk_bytes)
        self._blobs[version.digest] = (version, blob)
        return version

    def broadcast(self, version: UnitVersion) -> None:
        for chunk in split(self._blobs[version.digest][1], version.digest, version.chunk_bytes):
            self._transport.publish(self._topics.of("model", version.unit), chunk)

    def answer_request(self) -> UnitRequest:
        """Waits for a request and sends what it asks for."""
        request = self.wait(UnitRequest)
        version, blob = self._blobs[request.digest]
        for chunk in split(blob, version.digest, version.chunk_bytes, request.missing):
            self._transport.publish(self._topics.of("repeat", self._device), chunk)
        return request

    def wait(self, kind: type[M], which: Callable[[M], bool] = lambda _: True) -> M:
        """The next message of this kind; others are passed over."""
        while True:
            event = self._inbox.get(timeout=PATIENCE)
            if not isinstance(event, Received):
                continue
            branch, _ = self._topics.parse(event.topic)
            if branch == "upload":
                continue
            message = (_status if branch == "device" else _from_device)(event.payload)
            if isinstance(message, kind) and which(message):
                return message

    def fetch(self, offer: Offer, chunk_bytes: int, slice_chunks: int = 3) -> bytes:
        """Grants an update slice by slice and returns its bytes."""
        sink = MemorySink(offer.size)
        assembly = Assembly(offer.digest, offer.size, chunk_bytes, sink)
        while not assembly.complete:
            start = assembly.missing[0][0]
            granted = ((start, start + slice_chunks),)
            self.tell(
                Grant(
                    run=offer.run,
                    round=offer.round,
                    device=offer.device,
                    digest=offer.digest,
                    missing=granted,
                    window=2,
                )
            )
            while not assembly.complete and assembly.missing[0][0] < start + slice_chunks:
                event = self._inbox.get(timeout=PATIENCE)
                if isinstance(event, Received) and self._topics.parse(event.topic)[0] == "upload":
                    assembly.add(Chunk.parse(event.payload))
        assert assembly.finish()
        return bytes(sink.buffer)

    def accept(self, offer: Offer) -> None:
        self.tell(Receipt(run=offer.run, round=offer.round, device=offer.device, digest=offer.digest, state="accepted"))
