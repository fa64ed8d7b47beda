"""This module reads and writes model values in safetensors files, the form in which processes exchange them.

A model state is one file, or one file per unit as downloaded. Tensors are read one at a time, so that a whole second
copy of the model never stands in memory.
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
from fedlp_edge.system.files import replacing, why_not_written


class StateFiles:
    """Serves a model state from files, as the interface ``State`` asks for.

    Args:
        paths: Paths of the files that together hold the model state. They are opened only while values are read,
            because mapped files count as memory of the process.
    """

    def __init__(self, *paths: Path) -> None:
        self._paths = paths

    @contextmanager
    def open(self) -> Iterator[_OpenedFiles]:
        """Opens the files for the length of a ``with`` block, in which tensors can be read by name.

        Raises:
            StorageError: A file is missing or damaged; this may also be raised within the block.
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
    """Reads the tensors of several open safetensors files by name, one at a time."""

    def __init__(self, files: Mapping[Path, Any]) -> None:
        self._file_of = {name: (path, file) for path, file in files.items() for name in file.keys()}  # noqa: SIM118
        self._names = ", ".join(path.name for path in files)

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Reads one tensor and checks its shape.

        Raises:
            ModelError: The tensor is missing or has another shape.
        """
        if name not in self._file_of:
            raise ModelError(f"{self._names} lacks the tensor {name}: it belongs to another model or depth")
        path, file = self._file_of[name]
        tensor: Tensor = file.get_tensor(name)
        if tensor.shape != shape:
            raise ModelError(f"{path.name}: {name} is {list(tensor.shape)} where the model has {list(shape)}")
        return tensor


def save_values(model: nn.Module, path: Path, names: Iterable[str]) -> None:
    """Writes the named tensors of a model to one file, which is replaced atomically.

    Raises:
        StorageError: The file cannot be written.
    """
    save_tensors(values_of(model, names), path)


def save_tensors(tensors: dict[str, Tensor], path: Path, *, durable: bool = True) -> None:
    """Writes tensors to one file, which is replaced atomically.

    Args:
        tensors: Tensors on the CPU, by name.
        path: Path of the file; its directory is created if missing.
        durable: Whether the file is flushed to the disk, so that it survives a power cut after the return.

    Raises:
        StorageError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, durable=durable) as partial:
            save_file(tensors, partial)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"cannot write {path}: {why_not_written(error)}") from None
