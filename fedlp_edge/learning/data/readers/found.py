"""This module says in a few words or one table what a source holds."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from fedlp_edge.core.targets import TargetKind
from fedlp_edge.learning.data.partitioners import Indices
from fedlp_edge.learning.data.readers.listing import SampleListing, Samples
from fedlp_edge.system.printable import counted

_NAMED = 6  # classes or columns in one line
_FEATURE_SAMPLES = 10_000
"""Most samples whose features are looked at where samples are read when they are needed."""


class ValueRange(msgspec.Struct, frozen=True):
    """The values of one target or feature.

    Attributes:
        name: Name of the target or feature; the number of a target that has none.
        least: Least value.
        mean: Mean of the values.
        most: Greatest value.
    """

    name: str
    least: float
    mean: float
    most: float


class FoundData(msgspec.Struct, frozen=True, kw_only=True):
    """What a source holds.

    Attributes:
        samples: Number of samples.
        shape: Shape of one sample; empty while no model says to which size pictures are brought.
        targets: What is learned of them.
        classes: Number of samples of each class, or of those with each label, by name.
        ranges: Values of the targets, if they are numbers.
        groups: Number of samples of each group, by name; empty without groups.
        features: Names of the features; empty if they have none.
        feature_ranges: Values of the features, as they stand in the source; of evenly spaced samples where there are
            many that are not in memory.
        in_memory: Whether all samples are in memory, and none is read again.
        remarks: One line on what is left out; empty if nothing is.
    """

    samples: int
    shape: tuple[int, ...]
    targets: TargetKind
    classes: dict[str, int] = {}
    ranges: tuple[ValueRange, ...] = ()
    groups: dict[str, int] = {}
    features: tuple[str, ...] = ()
    feature_ranges: tuple[ValueRange, ...] = ()
    in_memory: bool = True
    remarks: str = ""

    def __str__(self) -> str:
        """Returns the most important in one line, without the remarks."""
        parts = [f"{counted(self.samples, 'sample')}" + (f" of {'x'.join(map(str, self.shape))}" if self.shape else "")]
        if self.classes:
            what = "labels" if self.targets == "labels" else "classes"
            names = [f"{name[:40]} {count:,}" for name, count in self.classes.items()]
            parts.append(f"{len(names)} {what} ({_some(names)})")
        if self.ranges:
            parts.append(_some([f"{r.name[:40]} from {r.least:.4g} to {r.most:.4g}" for r in self.ranges]))
        if self.groups:
            parts.append(f"{len(self.groups)} groups")
        if not self.in_memory:
            parts.append("read when they are needed")
        return ", ".join(parts)


def found_in(listing: SampleListing, keep: Indices | None = None) -> FoundData:
    """Reads samples of a listing, or lists them if they do not fit into memory, and says what there is.

    Args:
        listing: Samples of one split of a source.
        keep: Positions of the samples; None for all.

    Raises:
        DataError: The samples are unusable.
    """
    samples = listing.samples(keep)
    groups: dict[str, int] = {}
    if listing.groups is not None:
        counts = np.bincount(listing.groups[samples.index], minlength=len(listing.group_names)).tolist()
        groups = {name: count for name, count in zip(listing.group_names, counts, strict=True) if count}
    found = describe(samples.y, samples.classes, samples.targets, samples.shape)
    return msgspec.structs.replace(
        found,
        groups=groups,
        features=samples.features,
        feature_ranges=_feature_ranges(samples),
        in_memory=isinstance(samples.x, np.ndarray),
        remarks="; ".join(filter(None, (samples.remarks, found.remarks))),
    )


def describe(y: npt.NDArray[Any], names: tuple[str, ...], targets: TargetKind, shape: tuple[int, ...]) -> FoundData:
    """Says what samples there are.

    Args:
        y: Targets, int64 [N] or float32 [N, K].
        names: Names of the classes, labels or targets; empty if they have none.
        targets: What ``y`` is.
        shape: Shape of one sample.
    """
    if targets == "values":
        named = names or tuple(str(column) for column in range(y.shape[1]))
        ranges = tuple(
            ValueRange(name, float(values.min()), float(values.mean(dtype=np.float64)), float(values.max()))
            for name, values in zip(named, y.T, strict=True)
            if len(values)
        )
        remarks = ""
        if y.shape[1] > 1 and (y < 0).any() and np.isin(y, (-1, 0, 1)).all():
            remarks = "the targets are -1, 0 and 1 and count as numbers: several labels are told by 0 and 1 alone"
        return FoundData(samples=len(y), shape=shape, targets=targets, ranges=ranges, remarks=remarks)
    counts = y.sum(axis=0).astype(np.int64) if targets == "labels" else np.bincount(y, minlength=len(names))
    if targets == "none":
        names = ("normal", "anomalous") if counts[1:].any() else ("normal",)
    named = names or tuple(str(number) for number in range(len(counts)))
    return FoundData(
        samples=len(y), shape=shape, targets=targets, classes=dict(zip(named, counts.tolist(), strict=False))
    )


def _feature_ranges(samples: Samples) -> tuple[ValueRange, ...]:
    count = len(samples.x)
    if not samples.features or not count:
        return ()
    if isinstance(samples.x, np.ndarray):
        x = samples.x
    else:
        x = samples.x.read(np.unique(np.linspace(0, count - 1, min(count, _FEATURE_SAMPLES)).astype(np.int64)))
    columns = np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)
    return tuple(
        ValueRange(name, float(values.min()), float(values.mean(dtype=np.float64)), float(values.max()))
        for name, values in zip(samples.features, columns, strict=True)
    )


def _some(texts: list[str]) -> str:
    more = len(texts) - _NAMED
    return ", ".join(texts[:_NAMED]) + (f", {more:,} more" if more > 0 else "")
