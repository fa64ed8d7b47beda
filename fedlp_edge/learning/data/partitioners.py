"""This module partitions one data set among the devices of a simulated fleet.

A real device trains on its own samples. A demo, a test or a benchmark has one public data set and needs it distributed
as unevenly as real devices' data would be. Every device computes the same partition from the same seed and takes its
own part, so no samples have to be transferred.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from fedlp_edge.errors import DataError
from fedlp_edge.system.printable import counted

Indices = npt.NDArray[np.int64]

MIN_SAMPLES = 8
"""Fewest samples of a device, as long as the data set has this many for every device."""

SHARDS_OF_MIXED = 2
"""Shards that ``mixed`` and ``mixed-authors`` give to each device."""

ALLOWED = (
    "use iid, dirichlet:ALPHA (above 0), shards:N (1 or more), mixed:SHARE or mixed-authors:SHARE (0 to 1), or group"
)

Kind = Literal["iid", "dirichlet", "shards", "mixed", "mixed-authors", "group"]


@dataclass(frozen=True, slots=True)
class Partitioner:
    """Describes how samples are distributed among devices.

    Attributes:
        kind: Method. ``iid`` distributes shuffled samples evenly; ``dirichlet`` distributes each class in proportions
            drawn from Dirichlet(value); ``shards`` sorts by label and gives ``value`` contiguous shards to each
            device; ``mixed`` (experiments of arXiv 2303.06360) distributes the share ``1 - value`` evenly and the rest
            as two shards per device; ``mixed-authors`` is what the paper's published code does under that name: it
            cuts the shards from all samples, so that some samples occur twice and others not at all; ``group`` gives
            each device whole groups of samples, such as all of one person.
        value: Number after the colon; 0 without one.
    """

    kind: Kind
    value: float = 0.0


def parse_partitioner(text: str) -> Partitioner:
    """Parses a partitioner: ``iid``, ``dirichlet:0.5``, ``shards:2``, ``mixed:0.95`` or ``mixed-authors:0.95``.

    Raises:
        DataError: The text is none of these, or its number is out of range.
    """
    kind, colon, number = text.partition(":")
    if kind in ("iid", "group") and not colon:
        return Partitioner("iid" if kind == "iid" else "group")
    try:
        value = float(number)
    except ValueError:
        raise DataError(f"partition {text!r} is unknown: {ALLOWED}") from None
    if kind == "dirichlet" and 0 < value < np.inf:
        return Partitioner("dirichlet", value)
    if kind == "shards" and number.isdecimal() and value >= 1:
        return Partitioner("shards", value)
    if kind == "mixed" and 0 <= value <= 1:
        return Partitioner("mixed", value)
    if kind == "mixed-authors" and 0 <= value <= 1:
        return Partitioner("mixed-authors", value)
    raise DataError(f"partition {text!r} is unknown: {ALLOWED}")


def assign_samples(
    labels: npt.NDArray[np.integer],
    devices: int,
    partition: Partitioner,
    seed: int,
    groups: npt.NDArray[np.integer] | None = None,
) -> list[Indices]:
    """Assigns every sample to exactly one device (``mixed-authors`` excepted).

    Args:
        labels: Class number of each sample, [N].
        devices: Number of devices.
        partition: Partitioner to use.
        seed: Seed of all random choices; equal seeds give equal partitions.
        groups: Number of the group of each sample, [N], for ``group``; None if the source has no groups.

    Returns:
        One ascending index array (int64) per device; the arrays are disjoint and together cover all samples. With
        ``mixed-authors`` neither holds, and a device may have an index twice.

    Raises:
        DataError: There are fewer than two samples per device, or fewer samples than shards, or fewer groups than
            devices.
    """
    if partition.kind == "group":
        return _partition_by_group(groups, devices)
    if len(labels) < 2 * devices:
        samples, among = counted(len(labels), "sample"), counted(devices, "device")
        raise DataError(f"{samples} cannot be shared by {among}: each needs two at least")
    rng = np.random.default_rng([seed, devices])
    if partition.kind == "iid":
        parts = _partition_evenly(rng.permutation(len(labels)), devices)
    elif partition.kind == "dirichlet":
        parts = _partition_by_dirichlet(labels, devices, partition.value, rng)
    elif partition.kind == "shards":
        parts = _partition_by_shards(rng.permutation(len(labels)), labels, devices, int(partition.value), rng)
    elif partition.kind == "mixed":
        parts = _partition_mixed(labels, devices, partition.value, rng)
    else:
        return [np.sort(part) for part in _partition_mixed_as_authors(labels, devices, partition.value, rng)]
    _top_up(parts, min(MIN_SAMPLES, len(labels) // devices), rng)
    return [np.sort(part) for part in parts]


def _partition_by_group(groups: npt.NDArray[np.integer] | None, devices: int) -> list[Indices]:
    """Assigns the groups in turn, so that device K of as many devices as groups has group K."""
    if groups is None:
        raise DataError("partition=group needs groups: add group= to a table, or to a folder of pictures or sounds")
    numbers = np.unique(groups)
    if len(numbers) < devices:
        found, among = counted(len(numbers), "group"), counted(devices, "device")
        raise DataError(f"{found} cannot be shared by {among}: each needs one at least")
    return [np.flatnonzero(np.isin(groups, numbers[device::devices])) for device in range(devices)]


def _partition_evenly(pool: Indices, devices: int) -> list[Indices]:
    return list(np.array_split(pool, devices))


def _partition_by_dirichlet(
    labels: npt.NDArray[np.integer], devices: int, alpha: float, rng: np.random.Generator
) -> list[Indices]:
    parts: list[list[Indices]] = [[] for _ in range(devices)]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        shares = rng.dirichlet(np.full(devices, alpha))
        # A very small alpha can underflow to all zeros; in the limit one device gets the whole class.
        if not np.isfinite(shares).all() or shares.sum() == 0:
            shares = np.eye(devices)[rng.integers(devices)]
        cuts = (np.cumsum(shares)[:-1] * len(members)).astype(np.int64)
        for part, piece in zip(parts, np.split(members, cuts), strict=True):
            part.append(piece)
    return [np.concatenate(part) for part in parts]


def _partition_by_shards(
    pool: Indices, labels: npt.NDArray[np.integer], devices: int, per_device: int, rng: np.random.Generator
) -> list[Indices]:
    """Sorts the pool by label, cuts it into equal shards and assigns these to devices at random."""
    count = devices * per_device
    if len(pool) < count:
        raise DataError(f"{len(pool)} samples cannot be cut into {count} shards: ask for fewer shards per device")
    return _assign_shards(_cut_by_label(pool, labels, count), devices, per_device, rng)


def _cut_by_label(pool: Indices, labels: npt.NDArray[np.integer], count: int) -> list[Indices]:
    return np.array_split(pool[np.argsort(labels[pool], kind="stable")], count)


def _assign_shards(shards: list[Indices], devices: int, per_device: int, rng: np.random.Generator) -> list[Indices]:
    order = rng.permutation(len(shards))[: devices * per_device].reshape(devices, per_device)
    return [np.concatenate([shards[index] for index in row]) for row in order]


def _partition_mixed(
    labels: npt.NDArray[np.integer], devices: int, skewed: float, rng: np.random.Generator
) -> list[Indices]:
    pool = rng.permutation(len(labels))
    even = round(len(pool) * (1 - skewed))
    evenly = _partition_evenly(pool[:even], devices)
    if len(pool) - even < devices * SHARDS_OF_MIXED:
        return _partition_evenly(pool, devices)
    sharded = _partition_by_shards(pool[even:], labels, devices, SHARDS_OF_MIXED, rng)
    return [np.concatenate(pair) for pair in zip(evenly, sharded, strict=True)]


def _partition_mixed_as_authors(
    labels: npt.NDArray[np.integer], devices: int, skewed: float, rng: np.random.Generator
) -> list[Indices]:
    """Partitions as the published code of the FedLP paper does (github.com/Zhuzzq/FedLP, ``utils/sampling.py``).

    The even part is drawn from the first samples of the data set, and the shards are cut from the whole data set sorted
    by label. All devices get the same number of samples.
    """
    first = int(len(labels) * (1 - skewed))
    even = first // devices
    evenly = rng.permutation(first)[: even * devices].reshape(devices, even)
    size = len(labels) // devices // SHARDS_OF_MIXED - even // SHARDS_OF_MIXED
    if size == 0:
        return list(evenly)
    count = len(labels) // size
    shards = _cut_by_label(rng.permutation(count * size), labels, count)
    sharded = _assign_shards(shards, devices, SHARDS_OF_MIXED, rng)
    return [np.concatenate(pair) for pair in zip(evenly, sharded, strict=True)]


def _top_up(parts: list[Indices], minimum: int, rng: np.random.Generator) -> None:
    """Moves samples from the device with most samples to devices below the minimum."""
    for smallest in range(len(parts)):
        while len(parts[smallest]) < minimum:
            largest = max(range(len(parts)), key=lambda device: len(parts[device]))
            moved = min(minimum - len(parts[smallest]), len(parts[largest]) - minimum)
            shuffled = rng.permutation(parts[largest])
            parts[smallest] = np.concatenate([parts[smallest], shuffled[:moved]])
            parts[largest] = shuffled[moved:]
