"""This module reads the pictures of a folder when they are needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.partitioners import Indices
from fedlp_edge.learning.data.picture_folders import PictureList
from fedlp_edge.learning.data.pictures import PictureError, display_name, read_picture
from fedlp_edge.learning.data.readers.sample_keys import Keys, is_held_out, keys_of_names

FEW_UNREAD = 3
"""Number of unreadable pictures that may always be left out of a folder."""

MAX_UNREAD = 0.2
"""Largest share of unreadable pictures that may be left out; beyond it the owner must repair the folder."""

_TRIED = 20  # pictures that are read before training, to refuse at once a folder that cannot be read
_GREY = 128


class PictureReader:
    """Decodes and resizes pictures of a list.

    Nothing is known of a picture before it is read. In place of one that turns out to be unreadable, another picture of
    its class from the same batch is given, or a grey one if there is none, so that batches keep their size.

    Args:
        found: The pictures of one split of a folder.
        wanted: Positions in the list of the N pictures that are read.
        shape: Channels, height and width of a sample.
    """

    dtype: np.dtype[Any] = np.dtype(np.uint8)

    def __init__(self, found: PictureList, wanted: Indices, shape: tuple[int, int, int]) -> None:
        self._found = found
        self._wanted = wanted
        self.shape: tuple[int, ...] = shape
        self._unread: dict[int, str] = {}
        self._attempts = 0
        self._told = 0

    def __len__(self) -> int:
        return len(self._wanted)

    @property
    def nbytes(self) -> int:
        """Memory of the positions, bytes."""
        return self._wanted.nbytes

    def try_some(self) -> None:
        """Reads some pictures from all over the list.

        Raises:
            DataError: Too many of them cannot be read.
        """
        if len(self):
            self.read(np.unique(np.linspace(0, len(self) - 1, _TRIED).astype(np.int64)))

    def read(self, indices: Indices) -> npt.NDArray[np.uint8]:
        """Returns the pictures at some positions, uint8 [B, channels, height, width].

        Raises:
            DataError: More than a fifth of the pictures that were read by now could not be read.
        """
        channels, height, width = self.shape
        made = np.full((len(indices), channels, height, width), _GREY, np.uint8)
        good = np.zeros(len(indices), np.bool_)
        for row, index in enumerate(indices.tolist()):
            if index not in self._unread:
                self._attempts += 1
                good[row] = self._decode(index, made[row])
        labels = self._found.labels[self._wanted[indices]]
        for row in np.flatnonzero(~good).tolist():
            alike = np.flatnonzero(good & (labels == labels[row]))
            if len(alike):
                made[row] = made[alike[0]]
        return made

    def keys(self, indices: Indices) -> Keys:
        """Returns a hash of the path of each picture below the folder."""
        return keys_of_names([self._found.name_of(index) for index in self._wanted[indices].tolist()])

    def holdout(self, indices: Indices, share: float) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Returns which pictures are trained on, and which are held out."""
        held = is_held_out(self.keys(indices), share)
        return ~held, held

    def take_note(self) -> str:
        """Returns how many pictures could not be read, if more than at the last call."""
        if len(self._unread) == self._told:
            return ""
        self._told = len(self._unread)
        return f"{self._told} of {len(self)} pictures cannot be read so far, the first is {self._first()}"

    def _decode(self, index: int, place: npt.NDArray[np.uint8]) -> bool:
        channels, height, width = self.shape
        file = self._found.files[int(self._wanted[index])]
        try:
            place[...] = read_picture(file, channels, (height, width)).pixels
        except PictureError as error:
            self._unread[index] = f"{display_name(file.relative_to(self._found.base))} {error.reason}"
            if len(self._unread) > max(FEW_UNREAD, MAX_UNREAD * max(self._attempts, min(_TRIED, len(self)))):
                raise DataError(too_many(self._found, len(self._unread), self._attempts, self._first())) from None
            return False
        return True

    def _first(self) -> str:
        return next(iter(self._unread.values()))


def read_pictures(
    found: PictureList, wanted: Indices, shape: tuple[int, int, int]
) -> tuple[npt.NDArray[np.uint8], Indices]:
    """Reads pictures of a list at once, and adds those that cannot be read to the list's ``skipped``.

    Returns:
        Pixels uint8 [N, channels, height, width], and the positions of these N pictures in the list.

    Raises:
        DataError: Too many pictures cannot be read.
    """
    channels, height, width = shape
    x = np.empty((len(wanted), channels, height, width), np.uint8)
    good: list[int] = []
    unread = found.skipped.unread
    for index in wanted.tolist():
        file = found.files[index]
        try:
            picture = read_picture(file, channels, (height, width))
        except PictureError as error:
            unread.append(f"{display_name(file.relative_to(found.base))} {error.reason}")
            bad = len(unread)
            if bad > FEW_UNREAD and bad > MAX_UNREAD * len(wanted):
                raise DataError(too_many(found, bad, len(wanted), unread[0])) from None
            continue
        x[len(good)] = picture.pixels
        found.skipped.frames += picture.several_frames
        good.append(index)
    if len(wanted) and not good:
        raise DataError(too_many(found, len(wanted), len(wanted), unread[0]))
    return x[: len(good)], np.asarray(good, dtype=np.int64)


def too_many(found: PictureList, bad: int, wanted: int, first: str) -> str:
    """Returns the message that too many pictures cannot be read."""
    return (
        f"{display_name(found.base)}: {bad} of {wanted} pictures cannot be read, the first is {first}; "
        f"up to {MAX_UNREAD:.0%} are left out: repair or remove them"
    )
