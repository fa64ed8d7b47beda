"""This module publishes the global model to the workers, as devices decode it, and counts what they download.

It counts as a real fleet does (``payload_down`` in ``summary.json``): a device downloads each blob of its task that it
has not got from its task before, so an unchanged unit costs nothing, and what never changes of a unit comes once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fedlp_edge.core.accounting import download_bytes
from fedlp_edge.core.algorithm.aggregation import Array
from fedlp_edge.core.blueprint import Blueprint, TensorSpec, Unit
from fedlp_edge.core.settings import BroadcastEncoding
from fedlp_edge.simulation.engines.base import Engine
from fedlp_edge.wire.broadcast_encoding import decode_weights, encode_weights
from fedlp_edge.wire.digests import digest_of, digest_of_parts
from fedlp_edge.wire.tensors import pieces


class ModelPublisher:
    """Publishes weights in the encoding of their broadcast.

    A unit's *edition* is the first version of the model in which it has its present bytes.

    Args:
        engine: Engine that trains.
        blueprint: Blueprint of the model.
        encoding: Encoding of the broadcast.
    """

    def __init__(self, engine: Engine, blueprint: Blueprint, encoding: BroadcastEncoding) -> None:
        self._engine = engine
        self._blueprint = blueprint
        self._encoding = encoding
        self._digests: dict[str, str] = {}
        self._sizes: dict[tuple[str, int], int] = {}
        self._editions: dict[int, dict[str, int]] = {0: {unit.id: 0 for unit in blueprint.global_units}}
        self._held: dict[str, dict[str, int]] = {}

    @property
    def exact(self) -> bool:
        """Whether devices decode the very weights of the coordinator."""
        return self._encoding in ("none", "none+zstd")

    def publish(self, version: int, weights: Mapping[str, Array]) -> None:
        """Publishes what devices decode of a version; each is the one before, or the next one, or a known older one."""
        latest = max(self._editions)
        before = self._editions[min(version, latest)]
        editions: dict[str, int] = {}
        decoded: dict[str, Array] = {}
        for unit in self._blueprint.global_units:
            if self._encoding == "none":
                parts = pieces({spec.name: weights[spec.name] for spec in unit.tensors})
                digest, size = digest_of_parts(parts), sum(len(part) for part in parts)
            else:
                blob = encode_weights(unit.tensors, weights, self._encoding)
                digest, size = digest_of(blob), len(blob)
                decoded |= decode_weights(unit.tensors, blob, self._encoding)
            unchanged = version <= latest or self._digests.get(unit.id) == digest
            editions[unit.id] = before[unit.id] if unchanged else version
            self._sizes[unit.id, editions[unit.id]] = size
            if version >= latest:
                self._digests[unit.id] = digest
        self._editions.setdefault(version, editions)
        self._engine.publish(version, weights if self._encoding == "none" else {**weights, **decoded})

    def changed(self, version: int) -> dict[str, int]:
        """Returns the units whose bytes a version changed, with their bytes."""
        return {
            unit: self._sizes[unit, version]
            for unit, edition in self._editions[version].items()
            if edition == version and (unit, version) in self._sizes
        }

    def restore(self, version: int, changed: Mapping[str, int] | None) -> None:
        """Takes up what an earlier process has counted, version by version.

        Args:
            version: Version of the model.
            changed: What ``changed`` returned of it; None if that was not recorded, and all units are taken to change.
        """
        before = self._editions[version - 1]
        self._editions[version] = {**before, **dict.fromkeys(before if changed is None else changed, version)}
        self._sizes |= {(unit, version): size for unit, size in (changed or {}).items()}

    def lacking(self, device: str, version: int, units: Sequence[Unit]) -> int:
        """Returns the bytes that a device downloads for a task.

        Args:
            device: Id of the device.
            version: Version of the model that the task starts from.
            units: Units that the device exchanges.
        """
        held = self._held.get(device, {})
        total = 0
        for unit in units:
            edition = self._editions[version][unit.id]
            if held.get(unit.id) != edition:
                total += self._size(unit, edition)
            if unit.constants and unit.fixed.id not in held:
                total += _packed_size(unit.constants)
        return total

    def note_downloaded(self, device: str, version: int, units: Sequence[Unit]) -> None:
        """Notes that a device has the blobs of a task, and those alone."""
        held = {unit.id: self._editions[version][unit.id] for unit in units}
        self._held[device] = held | {unit.fixed.id: 0 for unit in units if unit.constants}

    def _size(self, unit: Unit, edition: int) -> int:
        if self._encoding == "none":
            return _packed_size(unit.tensors)
        # Of a model that is scaled by width, a device of a narrow level gets a part of each tensor.
        partial = self._blueprint.widths and not self._encoding.endswith("+zstd")
        known = None if partial else self._sizes.get((unit.id, edition))
        return download_bytes(unit, self._encoding) if known is None else known


def _packed_size(tensors: Sequence[TensorSpec]) -> int:
    """Returns the bytes of a safetensors file of these tensors in float32."""
    return sum(len(part) for part in pieces({spec.name: np.zeros(spec.shape, np.float32) for spec in tensors}))
