"""This module reads the weights of a round as they came over the air, so that no device writes them once more.

A model that came as ``int8`` takes a quarter of the bytes of its float32 values. Those are made as they are asked for,
one tensor at a time, and never lie on the disk: a memory card would have to bear four times the writing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from fedlp_edge.core.blueprint import TensorSpec
from fedlp_edge.errors import ModelError, PeerError, StorageError
from fedlp_edge.learning.model.state_values import OpenedState, read_only_tensor
from fedlp_edge.learning.state_files import StateFiles
from fedlp_edge.wire.broadcast_encoding import EncodedWeights
from fedlp_edge.wire.concat_buffer import mapped
from fedlp_edge.worker.jobs import EncodedUnit


class ReceivedState:
    """A ``State`` of units in float32 and of encoded ones.

    Args:
        paths: Files of the units in float32.
        encoded: The other units. Like all files, theirs are mapped only while values are read.
    """

    def __init__(self, paths: Sequence[Path], encoded: Sequence[EncodedUnit]) -> None:
        self._plain = StateFiles(*paths)
        self._encoded = encoded

    @contextmanager
    def open(self) -> Iterator[OpenedState]:
        """Opens the files for the length of a ``with`` block.

        Raises:
            StorageError: A file is missing or damaged; this may also be raised within the block.
        """
        with self._plain.open() as plain:
            sources = {}
            for unit in self._encoded:
                try:
                    weights = EncodedWeights(unit.tensors, mapped(Path(unit.path)), unit.encoding)
                except (OSError, PeerError) as error:
                    raise StorageError(f"cannot read the model state {unit.path}: {error}") from None
                sources.update({spec.name: (spec, weights) for spec in unit.tensors})
            yield _Opened(plain, sources)


class _Opened:
    """The values of a received state while its files are open."""

    def __init__(self, plain: OpenedState, encoded: dict[str, tuple[TensorSpec, EncodedWeights]]) -> None:
        self._plain = plain
        self._encoded = encoded

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """See ``OpenedState.read``."""
        if name not in self._encoded:
            return self._plain.read(name, shape)
        spec, weights = self._encoded[name]
        if spec.shape != shape:
            raise ModelError(f"{name} came as {list(spec.shape)} where the model has {list(shape)}")
        return read_only_tensor(weights.read(spec))
