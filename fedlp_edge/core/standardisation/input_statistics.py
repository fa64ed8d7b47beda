"""Agrees on the mean and the standard deviation of each feature in a fleet, from what its sites report.

Every site must feed equal numbers to the model for equal values, and no site knows the values of the others. What was
agreed never changes, because the weights of the model are made for it.
"""

from __future__ import annotations

from collections import Counter

from fedlp_edge.core.standardisation.column_sums import ColumnSums, merged_columns
from fedlp_edge.core.standardisation.unlike_columns import UnlikeColumn, unlike_columns


class InputStatistics:
    """The statistics of the features of a fleet.

    They are open from the first report with features until enough of the fleet has reported.

    Args:
        agreed: Statistics that are agreed already, from the configuration or from before a restart of the coordinator;
            None if they are not.

    Attributes:
        agreed: Statistics of all sites that had reported when they were agreed; None before.
    """

    def __init__(self, agreed: ColumnSums | None = None) -> None:
        self._offered: dict[str, ColumnSums] = {}
        self._deciding: str | None = None
        self.agreed = agreed

    @property
    def open(self) -> bool:
        """Whether sites have reported features, and nothing is agreed yet."""
        return self.agreed is None and bool(self._offered)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features, in the order in which the model gets them; before, those of a deciding site."""
        if self.agreed is not None:
            return self.agreed.names
        return self._offered[self._deciding].names if self._deciding is not None else ()

    def offer(self, site: str, features: ColumnSums, *, decides: bool = False) -> None:
        """Takes the statistics of a site; a later offer replaces its earlier one.

        Args:
            site: Id of the site.
            features: Statistics of its samples.
            decides: Whether the fleet has the features of this site, whatever others report.
        """
        if self.agreed is not None:
            return
        self._offered[site] = features
        if decides:
            self._deciding = site

    def settle(self) -> bool:
        """Agrees on the statistics of the sites with the usual features; returns whether there are any now.

        Usual are the features of most sites, and of those with more values if as many sites have others. Which site
        reported first does not matter.
        """
        if not self.open:
            return False
        votes = Counter(frozenset(features.names) for features in self._offered.values())
        values: Counter[frozenset[str]] = Counter()
        for features in self._offered.values():
            values[frozenset(features.names)] += features.count
        usual = frozenset(self.names) or max(sorted(votes, key=sorted), key=lambda names: (votes[names], values[names]))
        # Sorted, so that the order of the reports does not matter to the last digit.
        sites = sorted(site for site, features in self._offered.items() if set(features.names) == usual)
        names = self._offered[sites[0]].names
        self.agreed = merged_columns(self._offered[site].arranged(names) for site in sites)
        return True

    def unlike(self, site: str, features: ColumnSums) -> list[UnlikeColumn]:
        """Returns the columns whose values have another size on a site than on those that were heard before.

        Args:
            site: Id of the site, which may have been heard.
            features: Statistics of its samples.
        """
        return unlike_columns(features, [offered for other, offered in self._offered.items() if other != site])
