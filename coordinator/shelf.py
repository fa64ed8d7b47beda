"""What the coordinator serves: the current version of every unit, and the ONNX files at the end.

Each changed unit is broadcast once on its own topic, whoever listens; a version that was broadcast before
is never broadcast again. Devices ask for the chunks that they miss, and those go to them alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from fedlp_edge.core.aggregation import Array
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.reporting.summary import Purpose
from fedlp_edge.transport.pump import Pump
from fedlp_edge.wire.chunks import chunk_count, split
from fedlp_edge.wire.messages import UnitRequest, UnitVersion
from fedlp_edge.wire.ranges import Ranges, clip, take
from fedlp_edge.wire.tensors import pack
from fedlp_edge.wire.topics import Topics

MAX_REPEATED_CHUNKS = 256
"""Chunks sent for one request; a device that misses more asks again. Bounds what a hostile one can cause."""


@dataclass
class _Blob:
    version: UnitVersion
    payload: bytes
    broadcast: bool = False


class Shelf:
    """Versions and bytes of everything that devices may download.

    Args:
        topics: of the fleet.
        pump: sends the chunks.
        chunk_bytes: payload bytes of a chunk.
        count: called with (purpose, bytes) for each chunk; the purposes are ``model`` and ``repeat``.
    """

    def __init__(self, topics: Topics, pump: Pump, chunk_bytes: int, count: Callable[[Purpose, int], None]) -> None:
        self._topics = topics
        self._pump = pump
        self._chunk_bytes = chunk_bytes
        self._count = count
        self._blobs: dict[str, _Blob] = {}

    def put_weights(self, blueprint: Blueprint, weights: Mapping[str, Array]) -> None:
        """Takes a new global model; units whose bytes are unchanged keep their version."""
        for unit in blueprint.global_units:
            self.put(unit.id, pack({tensor.name: weights[tensor.name] for tensor in unit.tensors}))

    def put(self, unit: str, payload: bytes) -> UnitVersion:
        """Takes one blob; returns its version."""
        digest = hashlib.sha256(payload).hexdigest()
        known = self._blobs.get(unit)
        if known is None or known.version.digest != digest:
            version = UnitVersion(unit, digest, len(payload), self._chunk_bytes)
            self._blobs[unit] = _Blob(version, payload)
        return self._blobs[unit].version

    def versions(self, units: Iterable[str]) -> tuple[UnitVersion, ...]:
        """Current versions, in the order asked for."""
        return tuple(self._blobs[unit].version for unit in units)

    def broadcast(self, units: Iterable[str]) -> None:
        """Sends every unit whose current version was not broadcast yet."""
        for unit in units:
            blob = self._blobs[unit]
            if not blob.broadcast:
                blob.broadcast = True
                self._send(self._topics.of("model", unit), blob, None, "model")

    def repeat(self, request: UnitRequest) -> bool:
        """Sends a device what it misses; False if the version is not the current one."""
        blob = self._blobs.get(request.unit)
        if blob is None or blob.version.digest != request.digest:
            return False
        count = chunk_count(blob.version.size, blob.version.chunk_bytes)
        wanted, _ = take(clip(request.missing, count), MAX_REPEATED_CHUNKS)
        topic = self._topics.of("repeat", request.device)
        self._send(topic, blob, wanted, "repeat")
        return True

    def _send(self, topic: str, blob: _Blob, which: Ranges | None, purpose: Purpose) -> None:
        chunks = split(blob.payload, blob.version.digest, blob.version.chunk_bytes, which)
        key = f"{topic} {blob.version.unit}"
        self._pump.push(topic, chunks, key=key, sent=lambda nbytes: self._count(purpose, nbytes))
