"""This module converts between the arrays that processes share and the tensors of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor

from fedlp_edge.core.algorithm.aggregation import Array
from fedlp_edge.errors import ModelError
from fedlp_edge.learning.model.state_values import read_only_tensor


class ArrayState:
    """A ``State`` of a model in arrays, of which a narrower model takes the leading blocks.

    Args:
        arrays: Arrays by tensor name, never written; of several mappings the first with a name gives its value.
    """

    def __init__(self, *arrays: Mapping[str, Array]) -> None:
        self._arrays = arrays

    @contextmanager
    def open(self) -> Iterator[ArrayState]:
        """Returns this object, since arrays need no opening."""
        yield self

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Returns the leading block of the named array as a tensor.

        Raises:
            ModelError: No mapping has the name.
        """
        for arrays in self._arrays:
            if name in arrays:
                return read_only_tensor(leading(arrays[name], shape))
        raise ModelError(f"the arrays lack the tensor {name}")


def arrays_of(tensors: Mapping[str, Tensor]) -> dict[str, Array]:
    """Returns CPU tensors as arrays that share their memory."""
    return {name: value.numpy() for name, value in tensors.items()}


def leading(value: Array, shape: tuple[int, ...]) -> Array:
    """Returns the leading block of a tensor in the shape of a device's model; usually the whole tensor."""
    return value if value.shape == shape else value[tuple(slice(side) for side in shape)]
