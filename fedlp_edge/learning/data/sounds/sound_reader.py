"""This module reads the sounds of a list when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlp_edge.learning.data.partitioners import Indices
from fedlp_edge.learning.data.pictures.picture_reader import raise_too_many
from fedlp_edge.learning.data.readers.sample_keys import Keys, is_held_out, keys_of_names
from fedlp_edge.learning.data.readers.unread_files import UnreadFiles
from fedlp_edge.learning.data.sounds.log_mel import SoundError, SoundFile, read_log_mel, shape_of
from fedlp_edge.learning.data.spec.data_spec import SoundOptions


class SoundReader:
    """Reads sounds; in place of one that cannot be read, silence is given.

    Args:
        files: All sounds of a list.
        names: Names of all, by a hash of which they are held out.
        shown: What all are called in messages.
        wanted: Positions in the list of the N sounds that are read.
        options: Conversion of the sounds.
        base: The folder, for people.
    """

    dtype: np.dtype[Any] = np.dtype(np.float32)

    def __init__(
        self,
        files: Sequence[SoundFile],
        names: Sequence[str],
        shown: Sequence[str],
        wanted: Indices,
        options: SoundOptions,
        base: str,
    ) -> None:
        self._files = files
        self._names = names
        self._shown = shown
        self._wanted = wanted
        self._options = options
        self._base = base
        self.shape: tuple[int, ...] = shape_of(options)
        self._unread = UnreadFiles(len(wanted))

    def __len__(self) -> int:
        return len(self._wanted)

    @property
    def nbytes(self) -> int:
        """Memory of the positions, bytes."""
        return self._wanted.nbytes

    def read(self, indices: Indices) -> npt.NDArray[np.float32]:
        """Returns the spectrograms at some positions, float32 [B, 1, mels, frames].

        Raises:
            DataError: Too many sounds are damaged.
            DataAwayError: Too many cannot be read, some of which cannot be opened.
        """
        made = np.full((len(indices), *self.shape), np.log(1e-6), np.float32)
        for row, index in enumerate(indices.tolist()):
            if self._unread.is_damaged(index):
                continue
            number = int(self._wanted[index])
            try:
                made[row] = read_log_mel(self._files[number], self._options)
            except SoundError as error:
                self._unread.was_not_read(index, f"{self._shown[number]} {error.reason}", lost=error.lost)
                if self._unread.too_many:
                    raise_too_many(self._base, "sounds", self._unread)
            else:
                self._unread.was_read(index)
        return made

    def keys(self, indices: Indices) -> Keys:
        """Returns a hash of the name of each sound."""
        return keys_of_names(self._names[index] for index in self._wanted[indices].tolist())

    def holdout(self, indices: Indices, share: float) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Returns which sounds are trained on, and which are held out."""
        held = is_held_out(self.keys(indices), share)
        return ~held, held

    @property
    def unread_files(self) -> UnreadFiles:
        """Sounds for which silence stands."""
        return self._unread

    @property
    def unread(self) -> int:
        """Number of sounds that were found to be unreadable."""
        return len(self._unread)

    @property
    def first_unread(self) -> str:
        """Name of the first sound that cannot be read, and why; only if there is one."""
        return self._unread.first

    def take_note(self) -> str:
        """Returns how many sounds could not be read, if more than at the last call."""
        if not self._unread.are_news():
            return ""
        return f"{self._note(len(self))}; silence stands for them"

    def _note(self, among: int) -> str:
        return f"{len(self._unread)} of {among} sounds cannot be read, the first is {self.first_unread}"
