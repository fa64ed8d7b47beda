"""Between the arrays that pass from process to process and the tensors of a model."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from fedlp_edge.core.algorithm.aggregation import Array
from fedlp_edge.errors import ModelError
from fedlp_edge.simulation.shared_memory import AnyArray


class ArrayState:
    """Values of a model in arrays, of which a narrower model takes the leading blocks; a `State`.

    Args:
        arrays: by name; only read. Of several mappings the first that has a name gives its value.
    """

    def __init__(self, *arrays: Mapping[str, Array]) -> None:
        self._arrays = arrays

    @contextmanager
    def open(self) -> Iterator[ArrayState]:
        """See ``State.open``: arrays need no opening."""
        yield self

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """See ``OpenedState.read``."""
        for arrays in self._arrays:
            if name in arrays:
                return tensor(leading(arrays[name], shape))
        raise ModelError(f"the arrays lack the tensor {name}")


def arrays_of(tensors: Mapping[str, Tensor]) -> dict[str, Array]:
    """Tensors on the CPU as arrays of the same memory."""
    return {name: value.numpy() for name, value in tensors.items()}


def leading(value: Array, shape: tuple[int, ...]) -> Array:
    """The leading block of a tensor that a device holds; mostly all of it."""
    return value if value.shape == shape else value[tuple(slice(side) for side in shape)]


def tensor(array: AnyArray) -> Tensor:
    """A tensor of the same memory, which is only read: it may lie where nobody may write."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(array)
