"""This module keeps account of files that could not be read, and says when they are too many to be left out.

What is damaged stays so. What could not be opened may only be away, as on a network share that was lost for a moment:
it is tried again each time. Shares are of the files that were tried, not of the attempts, of which every epoch makes as
many again.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedlp_edge.learning.data.partitioners import Indices

FEW_UNREAD = 3
"""Number of unreadable files that may always be left out of a folder."""

MAX_UNREAD = 0.2
"""Largest share of unreadable files that may be left out; beyond it the owner must repair the folder."""

TRIED = 20
"""Files that are read before training, to refuse at once a folder that cannot be read."""


class UnreadFiles:
    """The files of a source that could not be read.

    Args:
        files: Number of files of the source.
    """

    def __init__(self, files: int) -> None:
        self._tried = np.zeros(files, np.bool_)
        self._damaged: dict[int, str] = {}
        self._lost: dict[int, str] = {}
        self._told = 0

    def __len__(self) -> int:
        """Returns how many files could not be read when they were tried last."""
        return len(self._damaged) + len(self._lost)

    @property
    def are_all(self) -> bool:
        """Whether no file of the source could be read."""
        return len(self) == len(self._tried)

    @property
    def tried(self) -> int:
        """Number of files that were tried at least once."""
        return int(self._tried.sum())

    @property
    def first(self) -> str:
        """Name of the first of them, and why; only if there is one."""
        return next(iter((self._damaged or self._lost).values()))

    def is_damaged(self, index: int) -> bool:
        """Returns whether a file need not be tried again."""
        return index in self._damaged

    def are_lost(self, indices: Indices) -> npt.NDArray[np.bool_]:
        """Returns which of some files could not be opened when they were tried last, bool [M]."""
        return np.array([index in self._lost for index in indices.tolist()], np.bool_)

    def was_read(self, index: int) -> None:
        """Notes that a file was read."""
        self._tried[index] = True
        self._lost.pop(index, None)

    def was_not_read(self, index: int, line: str, *, lost: bool) -> None:
        """Notes that a file was not read.

        Args:
            index: Position of the file.
            line: Its name, and why.
            lost: Whether it could not even be opened, and may come back.
        """
        self._tried[index] = True
        (self._lost if lost else self._damaged)[index] = line

    @property
    def too_many_are_damaged(self) -> bool:
        """Whether more files are damaged than may be left out."""
        return self._are_too_many(len(self._damaged))

    @property
    def too_many(self) -> bool:
        """Whether more files could not be read than may be left out."""
        return self._are_too_many(len(self))

    def are_news(self) -> bool:
        """Returns whether more files are unread than at the last call."""
        before, self._told = self._told, max(self._told, len(self))
        return len(self) > before

    def _are_too_many(self, unread: int) -> bool:
        files = len(self._tried)
        return unread == files > 0 or unread > max(FEW_UNREAD, MAX_UNREAD * max(self.tried, min(TRIED, files)))
