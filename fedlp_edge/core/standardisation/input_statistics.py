"""Agrees on the mean and the standard deviation of each feature in a fleet, from what its sites report.

Every site must feed equal numbers to the model for equal values, and no site knows the values of the others. What was
agreed never changes, because the weights of the model are made for it.
"""

from __future__ import annotations

from fedlp_edge.core.standardisation.column_sums import ColumnSums, merged_columns


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
        self.agreed = agreed

    @property
    def open(self) -> bool:
        """Whether sites have reported features, and nothing is agreed yet."""
        return self.agreed is None and bool(self._offered)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features, in the order in which the model gets them; those of the first report before."""
        if self.agreed is not None:
            return self.agreed.names
        return next(iter(self._offered.values())).names if self._offered else ()

    def offer(self, site: str, features: ColumnSums) -> None:
        """Takes the statistics of a site; a later offer replaces its earlier one.

        Sites whose features are not those of the first one are left out: they are refused.
        """
        if self.agreed is None and (not self._offered or set(features.names) == set(self.names)):
            self._offered[site] = features

    def settle(self) -> bool:
        """Agrees on the statistics of all sites that have reported; returns whether there are any now."""
        if not self.open:
            return False
        # Sorted, so that the order of the reports does not matter to the last digit.
        names = self._offered[min(self._offered)].names
        self.agreed = merged_columns(self._offered[site].arranged(names) for site in sorted(self._offered))
        return True
