"""This module makes versions of the global model available to the workers, as devices would decode them."""

from __future__ import annotations

from collections.abc import Mapping

from fedlp_edge.core.accounting import download_bytes
from fedlp_edge.core.algorithm.aggregation import Array
from fedlp_edge.core.blueprint import Blueprint, Unit
from fedlp_edge.core.settings import BroadcastEncoding
from fedlp_edge.simulation.engines.base import Engine
from fedlp_edge.wire.broadcast_encoding import decode_weights, encode_weights


class ModelPublisher:
    """Publishes weights in the encoding of their broadcast.

    Args:
        engine: Engine that trains.
        blueprint: Blueprint of the model.
        encoding: Encoding of the broadcast.
    """

    def __init__(self, engine: Engine, blueprint: Blueprint, encoding: BroadcastEncoding) -> None:
        self._engine = engine
        self._blueprint = blueprint
        self._encoding = encoding
        self._nbytes: dict[int, dict[str, int]] = {}

    @property
    def exact(self) -> bool:
        """Whether devices decode the very weights of the coordinator."""
        return self._encoding in ("none", "none+zstd")

    def publish(self, version: int, weights: Mapping[str, Array]) -> None:
        """Publishes what devices decode of a version."""
        if self._encoding == "none":
            self._engine.publish(version, weights)
            return
        decoded: dict[str, Array] = {}
        for unit in self._blueprint.global_units:
            blob = encode_weights(unit.tensors, weights, self._encoding)
            if self._encoding.endswith("+zstd"):
                self._nbytes.setdefault(version, {})[unit.id] = len(blob)
            decoded |= decode_weights(unit.tensors, blob, self._encoding)
        self._engine.publish(version, {**weights, **decoded})

    def nbytes(self, version: int, unit: Unit) -> int:
        """Returns the bytes of a unit of a version on its way to a device.

        With compression, they are those of the encoded weights if the version was published since this process
        started, and otherwise those before compression.
        """
        return self._nbytes.get(version, {}).get(unit.id, download_bytes(unit, self._encoding))
