"""Who holds what: how many samples of each class every device of a simulated fleet has."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data import sources
from fedlp_edge.learning.data.partitioners import parse_partitioner
from fedlp_edge.learning.data.spec import Share, parse_spec
from fedlp_edge.learning.data.subset import everybody


@dataclass(frozen=True)
class ClassDistribution:
    """A deal.

    Attributes:
        classes: names by class number.
        counts: samples by device and class, [devices, classes].
        remarks: one line on what the source holds besides; empty if nothing.
    """

    classes: tuple[str, ...]
    counts: npt.NDArray[np.int64]
    remarks: str = ""

    @property
    def samples(self) -> npt.NDArray[np.int64]:
        """Of every device, [devices]."""
        totals: npt.NDArray[np.int64] = self.counts.sum(axis=1)
        return totals

    def classes_for(self, share: float) -> npt.NDArray[np.int64]:
        """How many of its largest classes make up this share of a device's samples, [devices]."""
        largest_first = np.sort(self.counts, axis=1)[:, ::-1]
        reached = np.cumsum(largest_first, axis=1) >= share * self.samples[:, None] - 1e-9
        needed: npt.NDArray[np.int64] = np.argmax(reached, axis=1) + 1
        return needed


def class_distribution(data: str, devices: int, partition: str, seed: int | None = None) -> ClassDistribution:
    """Deals the training split of a data set.

    Args:
        data: a data specification without a share.
        devices: how many share it.
        partition: how, as in ``partition=``.
        seed: of the deal; the specification's by default.

    Raises:
        DataError: the specification or the partition is wrong, or the data cannot be had or dealt.
    """
    spec = parse_spec(data)
    if spec.share is not None:
        raise DataError(f"data {data!r}: leave out share= and partition=; the whole deal is shown")
    if devices < 1:
        raise DataError(f"{devices} devices cannot share anything: 1 or more")
    dealt = replace(
        spec, share=Share(0, devices, parse_partitioner(partition)), seed=spec.seed if seed is None else seed
    )
    listing = sources.listing(spec, "train")
    # Read all the same: who asks what there is wants to know what cannot be used, too.
    samples = listing.samples(None)
    parts = [part[np.isin(part, samples.index)] for part in everybody(listing.labels, dealt)]
    return ClassDistribution(listing.names, count_classes(listing.labels, parts, len(listing.names)), samples.remarks)


def count_classes(
    labels: npt.NDArray[np.integer], parts: list[npt.NDArray[np.int64]], classes: int
) -> npt.NDArray[np.int64]:
    """Samples by device and class.

    Args:
        labels: class of each sample, [N].
        parts: indices of each device's samples.
        classes: how many there are.

    Returns:
        [devices, classes].
    """
    return np.stack([np.bincount(labels[part], minlength=classes) for part in parts])
