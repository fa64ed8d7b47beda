"""This module counts how many samples of each class the devices of a simulated fleet hold."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data import sources
from fedlp_edge.learning.data.partitioners import parse_partitioner
from fedlp_edge.learning.data.spec.data_spec import Share
from fedlp_edge.learning.data.spec.parsing import parse_spec
from fedlp_edge.learning.data.subset import indices_of_all_devices


@dataclass(frozen=True)
class ClassDistribution:
    """Holds the number of samples of each class on each device of a partitioned data set.

    Attributes:
        classes: Class names by class number.
        counts: Number of samples, int64 [devices, classes].
        remarks: One line on what was left out of the source; empty if nothing was.
    """

    classes: tuple[str, ...]
    counts: npt.NDArray[np.int64]
    remarks: str = ""

    @property
    def samples(self) -> npt.NDArray[np.int64]:
        """Number of samples of every device, int64 [devices]."""
        totals: npt.NDArray[np.int64] = self.counts.sum(axis=1)
        return totals

    def classes_for(self, share: float) -> npt.NDArray[np.int64]:
        """Returns how many of its largest classes make up a share of each device's samples, int64 [devices]."""
        largest_first = np.sort(self.counts, axis=1)[:, ::-1]
        reached = np.cumsum(largest_first, axis=1) >= share * self.samples[:, None] - 1e-9
        needed: npt.NDArray[np.int64] = np.argmax(reached, axis=1) + 1
        return needed


def class_distribution(data: str, devices: int, partition: str, seed: int | None = None) -> ClassDistribution:
    """Partitions the training split of a data set among devices and counts the classes of each.

    Args:
        data: Data specification without a share.
        devices: Number of devices.
        partition: Partitioner in the form of the option ``partition=``.
        seed: Seed of the partitioner; None for the seed of the specification.

    Raises:
        DataError: The specification or the partitioner is wrong, or the data cannot be read or partitioned.
    """
    spec = parse_spec(data)
    if spec.share is not None:
        raise DataError(f"data {data!r}: leave out share= and partition=; the samples of all devices are shown")
    if devices < 1:
        raise DataError(f"{devices} devices cannot share anything: 1 or more")
    shared = replace(
        spec, share=Share(0, devices, parse_partitioner(partition)), seed=spec.seed if seed is None else seed
    )
    listing = sources.list_samples(spec, "train")
    # The labels alone would do, but reading the samples also finds those that cannot be used.
    samples = listing.samples(None)
    parts = [
        part[np.isin(part, samples.index)] for part in indices_of_all_devices(listing.labels, shared, listing.groups)
    ]
    return ClassDistribution(listing.names, count_classes(listing.labels, parts, len(listing.names)), samples.remarks)


def count_classes(
    labels: npt.NDArray[np.integer], parts: list[npt.NDArray[np.int64]], classes: int
) -> npt.NDArray[np.int64]:
    """Counts samples by device and class.

    Args:
        labels: Class number of each sample, [N].
        parts: Indices of the samples of each device, one int64 array per device.
        classes: Number of classes.

    Returns:
        Number of samples, int64 [devices, classes].
    """
    return np.stack([np.bincount(labels[part], minlength=classes) for part in parts])
