"""This module stores the global model of each committed round in a safetensors file, under its state_dict names.

The server's other state (such as momentum) is in a second file, so that the first one can be loaded directly into a
model. The running average of the models, if the run keeps one, is in a third.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from fedlp_edge.core.algorithm.aggregation import Array
from fedlp_edge.core.algorithm.server_state import ServerState
from fedlp_edge.errors import StorageError
from fedlp_edge.system.files import remove_partials, replacing, why_not_written

_MOMENTS = ("m/", "v/")
_LAST_UPDATE = "last/"
_CHANGE = "change/"
"""What stands before the names of tensors and units in the file of the server's state."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
        directory: Directory of the files; the first `save` makes it if it is missing.
        keep: Number of latest checkpoints to keep; 0 keeps all.
    """

    def __init__(self, directory: Path, keep: int = 0) -> None:
        self._directory = directory
        self._keep = keep
        self._tidy = False

    def weights_path(self, round: int) -> Path:
        """Returns the path of the model after ``round``; round 0 is the initial model."""
        return self._directory / f"round-{round:05d}.safetensors"

    def evaluated_path(self, round: int) -> Path:
        """Returns the path of the model to evaluate and export: the running average if there is one, else the model."""
        average = self._average_path(round)
        return average if average.exists() else self.weights_path(round)

    def save(self, round: int, weights: Mapping[str, Array], state: ServerState) -> Path:
        """Writes the files of a checkpoint, the model last: its presence says that the checkpoint is complete.

        Args:
            round: Number of the round.
            weights: Model weights by state_dict name, constants included.
            state: Other state that the next server step starts from.

        Returns:
            Path of the model's file.

        Raises:
            StorageError: The files cannot be written.
        """
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            if not self._tidy:
                remove_partials(self._directory)
                self._tidy = True
        except OSError as error:
            raise StorageError(f"cannot write {self._directory}: {error.strerror}") from error
        if state.averages:
            # Constants have no average, but belong to the model.
            _save(self._average_path(round), {**weights, **state.averages})
        if flat := _flat(state):
            _save(self._server_path(round), flat)
        path = self.weights_path(round)
        _save(path, weights)
        return path

    def load(self, round: int) -> tuple[dict[str, Array], ServerState]:
        """Reads the model weights and the server's other state after ``round``.

        Raises:
            StorageError: The checkpoint is missing or damaged.
        """
        server, average = self._server_path(round), self._average_path(round)
        flat = _load(server) if server.exists() else {}
        averages = _load(average) if average.exists() else {}
        return _load(self.weights_path(round)), _typed(flat, averages)

    def has(self, round: int) -> bool:
        """Returns whether the model after ``round`` is there."""
        return self.weights_path(round).exists()

    def newest(self) -> int | None:
        """Returns the number of the last round whose model is there; None if there is none."""
        found = (path.stem.removeprefix("round-") for path in self._directory.glob("round-?????.safetensors"))
        return max((int(number) for number in found if number.isdecimal()), default=None)

    def prune(self, newest: int, kept: Collection[int] = ()) -> None:
        """Deletes the checkpoints that ``keep`` no longer covers, once round ``newest`` is committed.

        Args:
            newest: Number of the last committed round.
            kept: Numbers of rounds whose checkpoints stay in any case.
        """
        if not self._keep:
            return
        oldest_kept = newest - self._keep + 1
        for path in self._directory.glob("round-*.safetensors"):
            number = path.name.removeprefix("round-").partition(".")[0]
            if number.isdecimal() and int(number) < oldest_kept and int(number) not in kept:
                path.unlink(missing_ok=True)

    def _average_path(self, round: int) -> Path:
        return self._directory / f"round-{round:05d}.ema.safetensors"

    def _server_path(self, round: int) -> Path:
        return self._directory / f"round-{round:05d}.server.safetensors"


def is_whole(path: Path) -> bool:
    """Returns whether the file of a model is there and has the length that it says it has."""
    try:
        with safe_open(path, framework="np"):
            return True
    except (OSError, SafetensorError):
        return False


def _flat(state: ServerState) -> dict[str, Array]:
    """All but the averages, by the names that they have in a file."""
    first, second = _MOMENTS
    tables = ((first, state.first_moments), (second, state.second_moments), (_LAST_UPDATE, state.last_updates))
    flat = {prefix + name: value for prefix, table in tables for name, value in table.items()}
    return flat | {_CHANGE + unit: np.asarray(value, dtype=np.float32) for unit, value in state.changes.items()}


def _typed(flat: Mapping[str, Array], averages: dict[str, Array]) -> ServerState:
    """The state whose tensors had these names in a file."""

    def table(prefix: str) -> dict[str, Array]:
        return {key.removeprefix(prefix): value for key, value in flat.items() if key.startswith(prefix)}

    first, second = map(table, _MOMENTS)
    changes = {unit: float(value) for unit, value in table(_CHANGE).items()}
    return ServerState(first, second, averages, table(_LAST_UPDATE), changes)


def _save(path: Path, tensors: Mapping[str, Array]) -> None:
    try:
        with replacing(path) as partial:
            # np.ascontiguousarray would make a scalar one-dimensional.
            save_file({name: np.asarray(array, order="C") for name, array in tensors.items()}, partial)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"cannot write the checkpoint {path}: {why_not_written(error)}") from error


def _load(path: Path) -> dict[str, Array]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise StorageError(
            f"cannot read the checkpoint {path}: {error}; copy it again, or begin another run with an earlier "
            "checkpoint as [model] weights"
        ) from error
