"""How one data set is dealt to the devices of a simulated fleet.

A real device trains on its own samples. A demo, a test or a benchmark has one public data set and
needs it split as unevenly as real devices' data would be; every device computes the same deal from the
same seed and keeps its own part, so nothing has to be handed out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from fedlp_edge.errors import DataError

Indices = npt.NDArray[np.int64]

MIN_SAMPLES = 8
"""No device gets fewer, as long as there are so many for each."""

SHARDS_OF_MIXED = 2

ALLOWED = "use iid, dirichlet:ALPHA (above 0), shards:N (1 or more), mixed:SHARE or mixed-authors:SHARE (0 to 1)"

Kind = Literal["iid", "dirichlet", "shards", "mixed", "mixed-authors"]


@dataclass(frozen=True, slots=True)
class Partitioner:
    """How samples are dealt.

    Attributes:
        kind: ``iid`` deals shuffled samples evenly; ``dirichlet`` deals each class by proportions drawn
            from Dirichlet(value); ``shards`` sorts by label and deals ``value`` contiguous shards to each
            device; ``mixed`` (the FedLP experiments) deals the share ``1 - value`` evenly and the rest as
            two shards to each device; ``mixed-authors`` is what the FedLP authors' code does under that name:
            the shards are cut from all samples, so that some are dealt twice and others to nobody.
        value: the number after the colon; 0 for ``iid``.
    """

    kind: Kind
    value: float = 0.0


def parse_partitioner(text: str) -> Partitioner:
    """Reads ``iid``, ``dirichlet:0.5``, ``shards:2``, ``mixed:0.95`` or ``mixed-authors:0.95``.

    Raises:
        DataError: it is none of these, or its number is out of range.
    """
    kind, colon, number = text.partition(":")
    if kind == "iid" and not colon:
        return Partitioner("iid")
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


def deal(labels: npt.NDArray[np.integer], devices: int, partition: Partitioner, seed: int) -> list[Indices]:
    """Deals every sample to exactly one device (``mixed-authors`` excepted).

    Args:
        labels: class of each sample, [N].
        devices: how many devices share them.
        partition: how.
        seed: the same seed gives the same deal.

    Returns:
        One ascending index array per device; they are disjoint and together cover all samples. With
        ``mixed-authors`` neither holds, and a device may have an index twice.

    Raises:
        DataError: there are not two samples for every device, or fewer samples than shards.
    """
    if len(labels) < 2 * devices:
        raise DataError(f"{len(labels)} samples cannot be shared by {devices} devices: each needs two at least")
    rng = np.random.default_rng([seed, devices])
    if partition.kind == "iid":
        parts = _deal_evenly(rng.permutation(len(labels)), devices)
    elif partition.kind == "dirichlet":
        parts = _deal_dirichlet(labels, devices, partition.value, rng)
    elif partition.kind == "shards":
        parts = _deal_shards(rng.permutation(len(labels)), labels, devices, int(partition.value), rng)
    elif partition.kind == "mixed":
        parts = _deal_mixed(labels, devices, partition.value, rng)
    else:
        return [np.sort(part) for part in _deal_mixed_as_authors(labels, devices, partition.value, rng)]
    _top_up(parts, min(MIN_SAMPLES, len(labels) // devices), rng)
    return [np.sort(part) for part in parts]


def _deal_evenly(pool: Indices, devices: int) -> list[Indices]:
    return list(np.array_split(pool, devices))


def _deal_dirichlet(
    labels: npt.NDArray[np.integer], devices: int, alpha: float, rng: np.random.Generator
) -> list[Indices]:
    parts: list[list[Indices]] = [[] for _ in range(devices)]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        shares = rng.dirichlet(np.full(devices, alpha))
        # A very small alpha can underflow to all zeros: the limit is one device that gets everything.
        if not np.isfinite(shares).all() or shares.sum() == 0:
            shares = np.eye(devices)[rng.integers(devices)]
        cuts = (np.cumsum(shares)[:-1] * len(members)).astype(np.int64)
        for part, piece in zip(parts, np.split(members, cuts), strict=True):
            part.append(piece)
    return [np.concatenate(part) for part in parts]


def _deal_shards(
    pool: Indices, labels: npt.NDArray[np.integer], devices: int, per_device: int, rng: np.random.Generator
) -> list[Indices]:
    """Cuts the pool, ordered by label, into equal shards and deals them at random."""
    count = devices * per_device
    if len(pool) < count:
        raise DataError(f"{len(pool)} samples cannot be cut into {count} shards: ask for fewer shards per device")
    return _hand_out(_cut_by_label(pool, labels, count), devices, per_device, rng)


def _cut_by_label(pool: Indices, labels: npt.NDArray[np.integer], count: int) -> list[Indices]:
    return np.array_split(pool[np.argsort(labels[pool], kind="stable")], count)


def _hand_out(shards: list[Indices], devices: int, per_device: int, rng: np.random.Generator) -> list[Indices]:
    order = rng.permutation(len(shards))[: devices * per_device].reshape(devices, per_device)
    return [np.concatenate([shards[index] for index in row]) for row in order]


def _deal_mixed(
    labels: npt.NDArray[np.integer], devices: int, skewed: float, rng: np.random.Generator
) -> list[Indices]:
    pool = rng.permutation(len(labels))
    even = round(len(pool) * (1 - skewed))
    evenly = _deal_evenly(pool[:even], devices)
    if len(pool) - even < devices * SHARDS_OF_MIXED:
        return _deal_evenly(pool, devices)
    sharded = _deal_shards(pool[even:], labels, devices, SHARDS_OF_MIXED, rng)
    return [np.concatenate(pair) for pair in zip(evenly, sharded, strict=True)]


def _deal_mixed_as_authors(
    labels: npt.NDArray[np.integer], devices: int, skewed: float, rng: np.random.Generator
) -> list[Indices]:
    """The split of the experiments as their code makes it (github.com/Zhuzzq/FedLP, ``utils/sampling.py``).

    The even part is dealt from the first samples of the set, and the shards are cut from the whole set ordered
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
    sharded = _hand_out(shards, devices, SHARDS_OF_MIXED, rng)
    return [np.concatenate(pair) for pair in zip(evenly, sharded, strict=True)]


def _top_up(parts: list[Indices], minimum: int, rng: np.random.Generator) -> None:
    """Moves samples from the richest device to those below the minimum."""
    for poor in range(len(parts)):
        while len(parts[poor]) < minimum:
            rich = max(range(len(parts)), key=lambda device: len(parts[device]))
            gift = min(minimum - len(parts[poor]), len(parts[rich]) - minimum)
            shuffled = rng.permutation(parts[rich])
            parts[poor] = np.concatenate([parts[poor], shuffled[:gift]])
            parts[rich] = shuffled[gift:]
