"""Which number a class has in a fleet: agreed by name, once, from what those who hold samples call their classes.

Two sites number what they have by themselves; if one of them lacks a class, the same number stands for two things, and
the average of their models for nothing. So a name gets its number here, and everybody translates by name.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


class ClassNames:
    """The names of a fleet's classes by number.

    They are open until enough of the fleet has reported, and then only grow: a number that was given never changes.

    Args:
        classes: that the model tells apart.
        names: that are fixed already, by the configuration or by an earlier life of the coordinator.

    Attributes:
        names: by class number; empty as long as they are open, and where all samples have numbers alone.
        settled: whether they are agreed.
    """

    def __init__(self, classes: int, names: tuple[str, ...] = ()) -> None:
        self._classes = classes
        self._offered: dict[str, tuple[int, tuple[str, ...]]] = {}
        self.names = names
        self.settled = bool(names)

    @property
    def offered(self) -> bool:
        """Whether anybody has names."""
        return any(own for _, own in self._offered.values())

    def offer(self, site: str, names: Sequence[str], samples: int = 0) -> bool:
        """Takes the names that a site has.

        Args:
            site: whose they are; its later offer replaces its earlier one.
            names: in the order of that site's own numbers; empty if it has none.
            samples: that it has: where sites contradict each other, more samples count for more.

        Returns:
            Whether the agreed names have changed.
        """
        own = tuple(dict.fromkeys(names))
        if self.settled:
            return bool(self.names) and self._add(own)
        self._offered[site] = (samples, own)
        return False

    def settle(self) -> bool:
        """Ends the waiting for further offers; returns whether there are names now.

        A complete list keeps its order, so that a fleet numbers the classes of a public data set as the set does. The
        order of the offers does not matter.
        """
        if self.settled:
            return False
        self.settled = True
        agreed: set[str] = set()
        for _, (_, own) in sorted(self._offered.items(), key=lambda offer: (-offer[1][0], offer[0])):
            if len(own) == self._classes and agreed.issubset(own):
                self.names = own
                return True
            if len(agreed.union(own)) <= self._classes:
                agreed.update(own)
        self.names = tuple(sorted(agreed))
        return bool(agreed)

    def _add(self, own: tuple[str, ...]) -> bool:
        new = sorted(set(own) - set(self.names))
        if not new or len(self.names) + len(new) > self._classes:
            return False
        self.names += tuple(new)
        return True


def numbers_in(names: Sequence[str], own: Sequence[str]) -> npt.NDArray[np.int64]:
    """The fleet's number of each of a site's own classes, -1 for a class that the fleet does not have."""
    number = {name: index for index, name in enumerate(names)}
    return np.array([number.get(name, -1) for name in own], dtype=np.int64)
