"""This module keeps model values in safetensors files, the form in which they pass between processes.

A state is one file, or one for each unit as they were downloaded. Tensors are read and written one at a time where
that is possible, so that a state and its change never stand in memory as a whole beside the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fedlp_edge.errors import ModelError, StorageError
from fedlp_edge.learning.model.state_values import values_of
from fedlp_edge.system.files import replacing


class StateFiles:
    """The files that together hold a state; a `State`.

    Args:
        paths: of the files; opened when values are needed, since what is mapped counts as memory of the process.
    """

    def __init__(self, *paths: Path) -> None:
        self._paths = paths

    @contextmanager
    def open(self) -> Iterator[_OpenedFiles]:
        """See ``State.open``.

        Raises:
            StorageError: a file is missing or damaged; also within the block.
        """
        with ExitStack() as stack:
            path = None
            try:
                files = {}
                for path in self._paths:
                    files[path] = stack.enter_context(safe_open(path, framework="pt"))
                yield _OpenedFiles(files)
            except (OSError, SafetensorError) as error:
                raise StorageError(f"cannot read the model state {path}: {error}") from None


class _OpenedFiles:
    """Tensors by name, of several files, read one at a time."""

    def __init__(self, files: Mapping[Path, Any]) -> None:
        self._file_of = {name: (path, file) for path, file in files.items() for name in file.keys()}  # noqa: SIM118
        self._names = ", ".join(path.name for path in files)

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        if name not in self._file_of:
            raise ModelError(f"{self._names} lacks the tensor {name}: it belongs to another model or depth")
        path, file = self._file_of[name]
        tensor: Tensor = file.get_tensor(name)
        if tensor.shape != shape:
            raise ModelError(f"{path.name}: {name} is {list(tensor.shape)} where the model has {list(shape)}")
        return tensor


def save_values(model: nn.Module, path: Path, names: Iterable[str]) -> None:
    """Writes the named tensors of a model, replacing the file in one step.

    Raises:
        StorageError: it cannot be written.
    """
    save_tensors(values_of(model, names), path)


def save_tensors(tensors: dict[str, Tensor], path: Path, *, durable: bool = True) -> None:
    """Writes tensors, replacing the file in one step.

    Args:
        tensors: by name, on the CPU.
        path: of the file; its directory is made if missing.
        durable: whether it survives a power cut from the moment of the return on.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, durable=durable) as partial:
            save_file(tensors, partial)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"cannot write {path}: {error}") from None
