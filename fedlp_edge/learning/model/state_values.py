"""This module fills a model from wherever its values are, files or arrays in memory, behind one interface.

A device reads what it downloaded from files, one tensor at a time, since the memory for a second model may not be
there. A simulation reads shared arrays. What is done with the values is the same code.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import numpy.typing as npt
import torch
from torch import Tensor, nn

from fedlp_edge.errors import ModelError


class OpenedState(Protocol):
    """The values of a state while it is open."""

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """One tensor, on the CPU; only to be read, and only while the state is open.

        Args:
            name: Name of the tensor.
            shape: Shape that it has in the model.

        Raises:
            ModelError: There is no such tensor, or none of this shape.
            StorageError: The file cannot be read.
        """


class State(Protocol):
    """Tensors by name that a model can be filled with."""

    def open(self) -> AbstractContextManager[OpenedState]:
        """Makes the values readable for a block.

        Raises:
            StorageError: The files cannot be read.
        """


class TensorState:
    """Tensors in memory.

    Args:
        tensors: Tensors by name; only read.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    @contextmanager
    def open(self) -> Iterator[TensorState]:
        """See ``State.open``."""
        yield self

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """See ``OpenedState.read``."""
        value = self._tensors.get(name)
        if value is None or value.shape != shape:
            raise ModelError(f"there is no tensor {name} of {list(shape)}")
        return value


def read_only_tensor(array: npt.NDArray[Any]) -> Tensor:
    """A tensor of the memory of an array, which is only read: it may lie where nobody may write."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(array)


@torch.no_grad()
def load_values(model: nn.Module, state: State, names: Iterable[str]) -> None:
    """Copies the named tensors of a state into a model.

    Raises:
        ModelError: A tensor is missing or has another shape.
        StorageError: The state cannot be read.
    """
    held = model.state_dict()
    with state.open() as opened:
        for name in names:
            held[name].copy_(opened.read(name, tuple(held[name].shape)))


def values_of(model: nn.Module, names: Iterable[str]) -> dict[str, Tensor]:
    """The named tensors of a model as float32 on the CPU: its own memory if they are that already, else copies."""
    held = model.state_dict()
    return {name: held[name].detach().float().cpu().contiguous() for name in names}
