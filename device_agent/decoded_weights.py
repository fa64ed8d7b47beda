"""This module keeps the weights of a task's manifest as files that a worker can load, whatever they travelled in.

Weights that travelled in float32 are loaded from the cache as they are. Others are decoded once for each version, one
unit at a time, so that a model never stands in memory as a whole. They can be decoded again, so no device waits for its
disk to keep them: what an earlier process left, which a power cut may have halved, is not used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from device_agent.blob_cache import BlobCache
from fedlp_edge.core.blueprint import TensorSpec
from fedlp_edge.system.directories import make_directory
from fedlp_edge.wire.broadcast_encoding import decode_weights
from fedlp_edge.wire.concat_buffer import mapped
from fedlp_edge.wire.messages import UnitVersion
from fedlp_edge.wire.tensors import pack_file


class DecodedWeights:
    """The directory of decoded units, beside the cache of the blobs that arrived.

    Args:
        cache: Holds every blob that is asked for.
        directory: Directory of the decoded units.
    """

    def __init__(self, cache: BlobCache, directory: Path) -> None:
        self._cache = cache
        self._directory = directory
        self._written: set[str] = set()

    def paths(self, manifest: Sequence[UnitVersion], tensors: Mapping[str, tuple[TensorSpec, ...]]) -> tuple[Path, ...]:
        """Returns a file with float32 values for each version, and removes those of earlier versions.

        Args:
            manifest: Versions of a task.
            tensors: Tensors of every unit whose weights are encoded, by unit id.

        Raises:
            PeerError: A blob is not what the task says.
            OSError: The disk is full or fails.
        """
        encoded = {version.digest for version in manifest if version.encoding != "none"}
        if encoded or self._directory.exists():
            make_directory(self._directory)
            self._written &= encoded
            for path in self._directory.iterdir():
                if path.name not in self._written:
                    path.unlink()
        return tuple(
            self._cache.path(version.digest)
            if version.encoding == "none"
            else self._decoded(version, tensors[version.unit])
            for version in manifest
        )

    def _decoded(self, version: UnitVersion, tensors: Sequence[TensorSpec]) -> Path:
        path = self._directory / version.digest
        if not path.exists():
            weights = decode_weights(tensors, mapped(self._cache.path(version.digest)), version.encoding)
            pack_file(weights, path, durable=False)
            self._written.add(version.digest)
        return path
