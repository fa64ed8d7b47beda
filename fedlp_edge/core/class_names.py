"""Agrees on the number of each class in a fleet, from the class names that devices and coordinator report.

Each site numbers its classes by itself. If one of them lacks a class, equal numbers mean different classes, and the
average of their models is useless. So every class name gets one number here, and each site translates its numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median_low

import numpy as np
import numpy.typing as npt


class ClassNames:
    """The class names of a fleet by number.

    The names are open until enough of the fleet has reported. After that names can only be added: the number of a class
    never changes.

    Args:
        classes: Number of classes of the model.
        names: Names that are already agreed, from the configuration or from before a restart of the coordinator.

    Attributes:
        names: Names by class number; empty as long as they are open, and if no site has names.
        settled: Whether the names are agreed.
    """

    def __init__(self, classes: int, names: tuple[str, ...] = ()) -> None:
        self._classes = classes
        self._offered: dict[str, tuple[int | None, tuple[str, ...]]] = {}
        self.names = names
        self.settled = bool(names)

    @property
    def offered(self) -> bool:
        """Whether any site has offered names."""
        return any(own for _, own in self._offered.values())

    def offer(self, site: str, names: Sequence[str], samples: int | None = 0) -> bool:
        """Takes the class names of a site.

        Args:
            site: Id of the site; a later offer replaces its earlier one.
            names: Names in the order of the site's numbers; empty if it has none.
            samples: Samples of the site, as it says; None for the coordinator, whose names go before all others. If
                sites contradict each other, those with more samples together decide, where none counts for more than
                the median: no site decides alone by what it says of itself.

        Returns:
            Whether the agreed names have changed.
        """
        own = tuple(dict.fromkeys(names))
        if self.settled:
            return bool(self.names) and self._add(own)
        self._offered[site] = (samples, own)
        return False

    def settle(self) -> bool:
        """Agrees on the names that were offered; returns whether there are names now.

        A complete list keeps its order, so that a fleet numbers the classes of a public data set as that set does. The
        order of the offers does not matter.
        """
        if self.settled:
            return False
        self.settled = True
        agreed: set[str] = set()
        for own in self._by_support():
            if len(own) == self._classes and agreed.issubset(own):
                self.names = own
                return True
            if len(agreed.union(own)) <= self._classes:
                agreed.update(own)
        self.names = tuple(sorted(agreed))
        return bool(agreed)

    def _by_support(self) -> list[tuple[str, ...]]:
        """The names of each site, those first that most samples are labelled with or with some of which."""
        said = {site: samples for site, (samples, _) in self._offered.items() if samples is not None}
        usual = median_low(said.values()) if said else 0
        own = {site: frozenset(names) for site, (_, names) in self._offered.items()}

        def rank(site: str) -> tuple[bool, int, int, str]:
            support = sum(min(samples, usual) for other, samples in said.items() if own[other] <= own[site])
            return site in said, -support, -said.get(site, 0), site

        return [self._offered[site][1] for site in sorted(own, key=rank)]

    def _add(self, own: tuple[str, ...]) -> bool:
        new = sorted(set(own) - set(self.names))
        if not new or len(self.names) + len(new) > self._classes:
            return False
        self.names += tuple(new)
        return True


def numbers_in(names: Sequence[str], own: Sequence[str]) -> npt.NDArray[np.int64]:
    """Translates the class numbers of a site into those of the fleet.

    Args:
        names: Names of the fleet's classes by number.
        own: Names of the site's classes by number.

    Returns:
        Number in the fleet of each class of the site, int64 [classes of the site]; -1 if the fleet does not have it.
    """
    number = {name: index for index, name in enumerate(names)}
    return np.array([number.get(name, -1) for name in own], dtype=np.int64)
