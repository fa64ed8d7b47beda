"""Compares two schemes seed by seed: the mean difference, and how sure a few seeds make one of it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from scipy.stats import t as student

CONFIDENCE = 0.95


@dataclass(frozen=True)
class PairedDifference:
    """By how many points one scheme is ahead of another with the same seeds.

    Attributes:
        mean: of the differences, in points.
        low: end of the interval of confidence; minus infinity with one seed.
        high: other end.
        seeds: how many both have.
    """

    mean: float
    low: float
    high: float
    seeds: int

    @classmethod
    def of(cls, ours: Mapping[int, float], theirs: Mapping[int, float]) -> PairedDifference | None:
        """Of accuracies from 0 to 1 by seed; None if no seed is in both."""
        differences = [100 * (ours[seed] - theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())]
        if not differences:
            return None
        mean, count = statistics.fmean(differences), len(differences)
        if count == 1:
            return cls(mean, -math.inf, math.inf, 1)
        half = float(student.ppf((1 + CONFIDENCE) / 2, count - 1)) * statistics.stdev(differences) / math.sqrt(count)
        return cls(mean, mean - half, mean + half, count)

    def shown(self) -> str:
        """``+1.2 [-0.4, +2.8]``; without the interval if there is one seed."""
        return f"{self.mean:+.1f}" + (f" [{self.low:+.1f}, {self.high:+.1f}]" if self.seeds > 1 else "")

    def verdict(self) -> str:
        """Who is ahead with the whole interval."""
        if self.low > 0:
            return "ahead"
        return "**behind**" if self.high < 0 else "not told apart"
