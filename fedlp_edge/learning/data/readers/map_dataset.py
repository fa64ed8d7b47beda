"""This module reads samples of a user's ``torch.utils.data.Dataset`` of map style when they are needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlp_edge.errors import DataAwayError, DataError
from fedlp_edge.learning.data.arrays import AnyArray, as_array, sample_and_label, stored
from fedlp_edge.learning.data.partitioners import Indices
from fedlp_edge.learning.data.readers.sample_keys import Keys, is_held_out, keys_of_names
from fedlp_edge.learning.foreign_code import run_foreign_code

_LABELS = ("targets", "labels", "y")


class MapDatasetReader:
    """Reads samples by calling the data set's ``__getitem__``.

    Args:
        samples: The user's data set.
        source: Name of the data source in messages.
        first: First sample, which tells shape and type of all.
    """

    nbytes = 0

    def __init__(self, samples: Any, source: str, first: AnyArray) -> None:
        self._samples = samples
        self._source = source
        self.shape: tuple[int, ...] = first.shape
        self.dtype: np.dtype[Any] = np.dtype(np.uint8 if first.dtype == np.uint8 else np.float32)

    def __len__(self) -> int:
        return len(self._samples)

    def read(self, indices: Indices) -> AnyArray:
        """Returns the samples at some positions, [B, ...].

        Raises:
            DataAwayError: The user's code cannot open a file.
            DataError: It fails otherwise, or a sample has another shape than the first or is not finite.
        """
        made = np.empty((len(indices), *self.shape), self.dtype)
        for row, index in enumerate(indices.tolist()):
            try:
                with run_foreign_code(self._source):
                    x = as_array(
                        sample_and_label(self._samples[index], self._source, index)[0],
                        f"{self._source}: sample {index}",
                    )
            except DataError as error:
                if isinstance(error.__cause__, OSError):  # a file that the user's code opens may come back
                    raise DataAwayError(str(error)) from error
                raise
            if x.shape != self.shape:
                raise DataError(
                    f"{self._source} gives samples of different shapes, {list(self.shape)} and, for sample {index}, "
                    f"{list(x.shape)}: bring them to one"
                )
            made[row] = stored(x[None], f"{self._source}: sample {index}")[0]
        return made

    def keys(self, indices: Indices) -> Keys:
        """Returns a hash of the position of each sample, so that no sample has to be read for it."""
        return keys_of_names(str(index) for index in indices.tolist())

    def holdout(self, indices: Indices, share: float) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Returns which samples are trained on, and which are held out."""
        held = is_held_out(self.keys(indices), share)
        return ~held, held

    def take_note(self) -> str:
        """Returns nothing."""
        return ""


def open_map_dataset(made: Any, source: str, bound: int) -> tuple[MapDatasetReader, AnyArray] | None:
    """Opens a data set that does not fit into memory; called as the user's own code.

    The labels are its ``targets``, ``labels`` or ``y``, or are read from all samples once.

    Args:
        made: Object that the user's function returned.
        source: Name of the data source in messages.
        bound: Most bytes that samples may take in memory.

    Returns:
        Reader of the samples, and their targets; None if the object is something else, or fits.
    """
    if isinstance(made, Mapping | tuple | list | str | bytes | np.ndarray) or hasattr(made, "batch_sampler"):
        return None
    if not (hasattr(made, "__getitem__") and hasattr(made, "__len__")) or hasattr(made, "detach") or not len(made):
        return None
    first = as_array(sample_and_label(made[0], source, 0)[0], f"{source}: sample 0")
    reader = MapDatasetReader(made, source, first)
    if len(made) * first.size * reader.dtype.itemsize <= bound:
        return None
    for name in _LABELS:
        labels = getattr(made, name, None)
        if labels is not None and not callable(labels) and len(labels) == len(made):
            return reader, as_array(labels, f"{source}: {name}")
    each = [sample_and_label(made[index], source, index)[1] for index in range(len(made))]
    return reader, as_array(each, f"{source}: y")
