"""One file per committed round: the global model under its state names, readable by anything.

Everything else that a run remembers of its model stands in a second file beside it, so that the first one can be
loaded straight into a model; so does the running average of the models, if there is one, in a third.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from fedlp_edge.core.algorithm.aggregation import Array
from fedlp_edge.core.algorithm.server_state import ServerState
from fedlp_edge.errors import StorageError
from fedlp_edge.system.files import replacing

_MOMENTS = ("m/", "v/")
_LAST_UPDATE = "last/"
_CHANGE = "change/"
"""What stands before the names of tensors and units in the file of the server's state."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
        directory: made if missing.
        keep: how many of the latest stay; 0 keeps all.
    """

    def __init__(self, directory: Path, keep: int = 0) -> None:
        self._directory = directory
        self._keep = keep
        directory.mkdir(parents=True, exist_ok=True)

    def weights_path(self, round: int) -> Path:
        """Where the model after ``round`` is, or will be; round 0 is the initial model."""
        return self._directory / f"round-{round:05d}.safetensors"

    def evaluated_path(self, round: int) -> Path:
        """The model after ``round`` to evaluate and export: the running average if there is one, else the weights."""
        average = self._average_path(round)
        return average if average.exists() else self.weights_path(round)

    def save(self, round: int, weights: Mapping[str, Array], state: ServerState) -> Path:
        """Writes all files, the model last: its presence says that the checkpoint is whole.

        Args:
            round: that was closed.
            weights: of the global model, constants included.
            state: what the next server step rests on beside them.

        Returns:
            Where the weights are.
        """
        if state.averages:
            # What has no average, constants, is part of the model all the same.
            _save(self._average_path(round), {**weights, **state.averages})
        if flat := _flat(state):
            _save(self._server_path(round), flat)
        path = self.weights_path(round)
        _save(path, weights)
        return path

    def load(self, round: int) -> tuple[dict[str, Array], ServerState]:
        """Weights and state after ``round``.

        Raises:
            StorageError: the checkpoint is missing or damaged.
        """
        server, average = self._server_path(round), self._average_path(round)
        flat = _load(server) if server.exists() else {}
        averages = _load(average) if average.exists() else {}
        return _load(self.weights_path(round)), _typed(flat, averages)

    def prune(self, newest: int) -> None:
        """Deletes what ``keep`` no longer covers, once round ``newest`` is committed."""
        if not self._keep:
            return
        oldest_kept = newest - self._keep + 1
        for path in self._directory.glob("round-*.safetensors"):
            number = path.name.removeprefix("round-").partition(".")[0]
            if number.isdecimal() and int(number) < oldest_kept:
                path.unlink(missing_ok=True)

    def _average_path(self, round: int) -> Path:
        return self._directory / f"round-{round:05d}.ema.safetensors"

    def _server_path(self, round: int) -> Path:
        return self._directory / f"round-{round:05d}.server.safetensors"


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
            # Not ascontiguousarray, which makes a scalar a vector of one.
            save_file({name: np.asarray(array, order="C") for name, array in tensors.items()}, partial)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"cannot write the checkpoint {path}: {error}; is the disk full?") from error


def _load(path: Path) -> dict[str, Array]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"cannot read the checkpoint {path}: {error}") from error
