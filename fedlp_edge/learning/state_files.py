"""This module reads and writes model values in safetensors files, the form in which processes exchange them.

A model state is one file, or one file per unit as downloaded. Tensors are read one at a time, so that a whole second
copy of the model never stands in memory.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fedlp_edge.core.algorithm.aggregation import MAX_ABS_DELTA, Array
from fedlp_edge.errors import ModelError, StorageError
from fedlp_edge.learning.training.loop import DivergedError
from fedlp_edge.system.files import replacing


@torch.no_grad()
def load_values(model: nn.Module, paths: Iterable[Path], names: Iterable[str]) -> None:
    """Copies the named tensors from the files of a model state into a model.

    Raises:
        StorageError: A file is missing or damaged.
        ModelError: A tensor is missing or has another shape than the model's.
    """
    held = model.state_dict()
    with _opened(paths) as state:
        for name in names:
            value = state.read(name)
            if value.shape != held[name].shape:
                raise ModelError(
                    f"{state.file_of(name)}: {name} is {list(value.shape)} where the model has {list(held[name].shape)}"
                )
            held[name].copy_(value)


@torch.no_grad()
def put_values(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Copies tensors into the model's parameters and buffers of the same names."""
    held = model.state_dict()
    for name, value in values.items():
        held[name].copy_(value)


def copy_values(source: nn.Module, model: nn.Module, names: Iterable[str]) -> None:
    """Copies the named tensors from one model into another model with tensors of the same shapes."""
    given = source.state_dict()
    put_values(model, {name: given[name] for name in names})


def save_values(model: nn.Module, path: Path, names: Iterable[str]) -> None:
    """Writes the named tensors of a model to one file, which is replaced atomically.

    Raises:
        StorageError: The file cannot be written.
    """
    held = model.state_dict()
    _save({name: held[name].detach().cpu().contiguous() for name in names}, path, durable=True)


@torch.no_grad()
def save_update(
    model: nn.Module,
    before: Iterable[Path],
    sent: Mapping[str, Iterable[str]],
    directory: Path,
    statistics: Collection[str] = frozenset(),
) -> None:
    """Writes an update as one ``UNIT.safetensors`` per unit: deltas of weights, and statistics by value.

    Args:
        model: Model after training.
        before: Files with the values from which training started.
        sent: Names of the tensors to write, by unit id.
        directory: Directory of the files; created if missing.
        statistics: Names of the tensors that are written by value instead of as deltas.

    Raises:
        DivergedError: A value is not finite, or a weight's delta is larger than an update can carry.
        StorageError: A file cannot be read or written.
        ModelError: A tensor is missing in the files from which training started.
    """
    held = model.state_dict()
    with _opened(before) as state:
        for unit, names in sent.items():
            after = {name: held[name].float().cpu().contiguous() for name in names}
            update = {n: value if n in statistics else value - state.read(n) for n, value in after.items()}
            check_update({n: value.numpy() for n, value in update.items()}, statistics)
            # A power cut may lose these files, but training the same task again gives the same values.
            _save(update, directory / f"{unit}.safetensors", durable=False)


def check_update(update: Mapping[str, Array], statistics: Collection[str]) -> None:
    """Checks that an update can be added to a model.

    Args:
        update: Deltas of weights and values of statistics, by tensor name.
        statistics: Names of the tensors that are statistics.

    Raises:
        DivergedError: A value is not finite, or a weight's delta is larger than ``MAX_ABS_DELTA``.
    """
    for name, value in update.items():
        # The minimum and the maximum are NaN if any element is NaN.
        most = max(-float(value.min()), float(value.max())) if value.size else 0.0
        if not math.isfinite(most):
            raise DivergedError
        if name not in statistics and most > MAX_ABS_DELTA:
            raise DivergedError(f"{name} changed by {most:.1e} in one round")


class _State:
    """Reads the tensors of several open safetensors files by name, one at a time."""

    def __init__(self, files: Mapping[Path, Any]) -> None:
        self._file_of = {name: (path, file) for path, file in files.items() for name in file.keys()}  # noqa: SIM118
        self._names = ", ".join(path.name for path in files)

    def read(self, name: str) -> Tensor:
        if name not in self._file_of:
            raise ModelError(f"{self._names} lacks the tensor {name}: it belongs to another model or depth")
        tensor: Tensor = self._file_of[name][1].get_tensor(name)
        return tensor

    def file_of(self, name: str) -> str:
        return self._file_of[name][0].name


@contextmanager
def _opened(paths: Iterable[Path]) -> Iterator[_State]:
    with ExitStack() as stack:
        path = None
        try:
            files = {}
            for path in paths:
                files[path] = stack.enter_context(safe_open(path, framework="pt"))
            yield _State(files)
        except (OSError, SafetensorError) as error:
            raise StorageError(f"cannot read the model state {path}: {error}") from None


def _save(tensors: dict[str, Tensor], path: Path, *, durable: bool) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, durable=durable) as partial:
            save_file(tensors, partial)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"cannot write {path}: {error}") from None
