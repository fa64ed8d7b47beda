"""Model values in safetensors files: the form in which they pass between processes.

Tensors are read and written one at a time where that is possible, so that a state and its change never
stand in memory as a whole beside the model.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fedlp_edge.errors import ModelError, StorageError
from fedlp_edge.learning.training import Diverged


@torch.no_grad()
def load_values(model: nn.Module, path: Path, names: Iterable[str]) -> None:
    """Copies the named tensors from a file into a model.

    Raises:
        StorageError: the file is missing or damaged.
        ModelError: a tensor is missing or has another shape.
    """
    held = model.state_dict()
    try:
        with safe_open(path, framework="pt") as file:
            present = set(file.keys())
            for name in names:
                if name not in present:
                    raise ModelError(f"{path.name} lacks the tensor {name}: it belongs to another model or depth")
                value = file.get_tensor(name)
                if value.shape != held[name].shape:
                    raise ModelError(
                        f"{path.name}: {name} is {list(value.shape)} where the model has {list(held[name].shape)}"
                    )
                held[name].copy_(value)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"cannot read the model state {path}: {error}") from None


@torch.no_grad()
def copy_values(source: nn.Module, model: nn.Module, names: Iterable[str]) -> None:
    """Copies the named tensors from one model into another of the same shapes."""
    given, held = source.state_dict(), model.state_dict()
    for name in names:
        held[name].copy_(given[name])


def save_values(model: nn.Module, path: Path, names: Iterable[str]) -> None:
    """Writes the named tensors of a model, replacing the file in one step.

    Raises:
        StorageError: it cannot be written.
    """
    held = model.state_dict()
    _save({name: held[name].detach().cpu().contiguous() for name in names}, path, durable=True)


@torch.no_grad()
def save_deltas(model: nn.Module, before: Path, retained: Mapping[str, Iterable[str]], directory: Path) -> None:
    """Writes what training changed, one ``UNIT.safetensors`` per unit.

    Args:
        model: as it is after training.
        before: file with the values it started from.
        retained: names of the tensors that are wanted, by unit id.
        directory: where the files go; made if missing.

    Raises:
        Diverged: a change is not finite.
        StorageError: a file cannot be read or written.
    """
    held = model.state_dict()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with safe_open(before, framework="pt") as file:
            for unit, names in retained.items():
                deltas = {name: held[name].float().cpu() - file.get_tensor(name) for name in names}
                if not all(bool(delta.isfinite().all()) for delta in deltas.values()):
                    raise Diverged
                # Whoever asked for them makes them durable, in the one file that it sends.
                _save(deltas, directory / f"{unit}.safetensors", durable=False)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"cannot write deltas to {directory}: {error}") from None


def _save(tensors: dict[str, Tensor], path: Path, *, durable: bool) -> None:
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, partial)
        if durable:
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise StorageError(f"cannot write {path}: {error}") from None
