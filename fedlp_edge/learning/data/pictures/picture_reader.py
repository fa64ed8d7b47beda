"""This module reads the pictures of a folder when they are needed."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from fedlp_edge.errors import DataAwayError, DataError
from fedlp_edge.learning.data.partitioners import Indices
from fedlp_edge.learning.data.pictures.picture_decoding import PictureError, display_name, read_picture
from fedlp_edge.learning.data.pictures.picture_folders import PictureList
from fedlp_edge.learning.data.readers.sample_keys import Keys, is_held_out, keys_of_names
from fedlp_edge.learning.data.readers.unread_files import FEW_UNREAD, MAX_UNREAD, TRIED, UnreadFiles

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
        self._unread = UnreadFiles(len(wanted))

    def __len__(self) -> int:
        return len(self._wanted)

    @property
    def nbytes(self) -> int:
        """Memory of the positions and of encoded pictures, bytes."""
        return self._wanted.nbytes + self._found.nbytes

    @property
    def unread_files(self) -> UnreadFiles:
        """Pictures for which others, or grey ones, stand."""
        return self._unread

    def try_some(self) -> None:
        """Reads some pictures from all over the list.

        Raises:
            DataError: Too many of them cannot be read.
        """
        if len(self):
            self.read(np.unique(np.linspace(0, len(self) - 1, TRIED).astype(np.int64)))

    def read(self, indices: Indices) -> npt.NDArray[np.uint8]:
        """Returns the pictures at some positions, uint8 [B, channels, height, width].

        Raises:
            DataError: More than a fifth of the pictures that were tried by now are damaged.
            DataAwayError: More than a fifth of them cannot be read, some of which cannot be opened.
        """
        channels, height, width = self.shape
        made = np.full((len(indices), channels, height, width), _GREY, np.uint8)
        good = np.zeros(len(indices), np.bool_)
        for row, index in enumerate(indices.tolist()):
            if not self._unread.is_damaged(index):
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
        if not self._unread.are_news():
            return ""
        return f"{len(self._unread)} of {len(self)} pictures cannot be read so far, the first is {self._unread.first}"

    def _decode(self, index: int, place: npt.NDArray[np.uint8]) -> bool:
        channels, height, width = self.shape
        number = int(self._wanted[index])
        try:
            place[...] = read_picture(self._found.files[number], channels, (height, width)).pixels
        except PictureError as error:
            line = f"{self._found.shown(number)} {error.reason}"
            self._unread.was_not_read(index, line, lost=error.lost)
            if self._unread.too_many:
                raise_too_many(display_name(self._found.base), "pictures", self._unread)
            return False
        self._unread.was_read(index)
        return True


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
    unread, base = found.skipped.unread, display_name(found.base)
    for index in wanted.tolist():
        try:
            picture = read_picture(found.files[index], channels, (height, width))
        except PictureError as error:
            unread.append(f"{found.shown(index)} {error.reason}")
            bad = len(unread)
            if bad > FEW_UNREAD and bad > MAX_UNREAD * len(wanted):
                raise DataError(_repair(f"{base}: {bad} of {len(wanted)} pictures cannot be read", unread[0])) from None
            continue
        x[len(good)] = picture.pixels
        found.skipped.frames += picture.several_frames
        good.append(index)
    if len(wanted) and not good:
        raise DataError(_repair(f"{base}: {len(wanted)} of {len(wanted)} pictures cannot be read", unread[0]))
    return x[: len(good)], np.asarray(good, dtype=np.int64)


def raise_too_many(place: str, kind: str, unread: UnreadFiles) -> NoReturn:
    """Refuses a folder too many files of which cannot be read.

    Args:
        place: The folder, for people.
        kind: What its files are, for people.
        unread: Its unreadable files.

    Raises:
        DataAwayError: Some of them cannot be opened, and may come back.
        DataError: Otherwise.
    """
    counted = f"{place}: {len(unread)} of {unread.tried} {kind} cannot be read"
    if unread.are_all:
        counted = f"{place}: none of its {kind} can be read"
    if unread.too_many_are_damaged:
        raise DataError(_repair(counted, unread.first)) from None
    raise DataAwayError(
        f"{counted} any more, the first is {unread.first}: is the disk or network share still there?"
    ) from None


def _repair(counted: str, first: str) -> str:
    return f"{counted}, the first is {first}; up to {MAX_UNREAD:.0%} are left out: repair or remove them"
