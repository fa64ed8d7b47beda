"""This module packs what a device has measured on its held-out samples for a control message, and unpacks what comes.

A device holds out few samples, so that most numbers of a large confusion matrix are 0 and are left out. What comes is
untrusted: lengths are bounded before anything is allocated, and every number is finite. Whether samples can have such
sums is for ``core.device_scores`` to say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated

import msgspec

from fedlp_edge.core.device_scores import DISPENSABLE, HeldOutScores
from fedlp_edge.core.metrics.metric_sums import MAX_NUMBERS, MetricSums, SumsName
from fedlp_edge.errors import PeerError

MAX_DEPTHS = 64
"""Most exits that one device reports on."""

MAX_SUMS = 32
"""Most arrays, and most metrics, of one exit."""

MAX_EXIT_NUMBERS = 4096
"""Numbers of all arrays of one exit, zeros included, above which a device leaves out what no main metric needs."""

MAX_BYTES = 128 << 10
"""Most bytes of the packed scores of all exits in one message; a device whose scores take more reports none."""

LARGEST = 1e300
"""Largest magnitude of a number; a device says this of a number that is larger or none."""

Place = Annotated[int, msgspec.Meta(ge=0, lt=MAX_NUMBERS)]
Depth = Annotated[int, msgspec.Meta(ge=1, le=9999)]
Finite = Annotated[float, msgspec.Meta(ge=-LARGEST, le=LARGEST)]


class PackedArray(msgspec.Struct, frozen=True, array_like=True):
    """One array of sums without its zeros.

    Attributes:
        length: Number of numbers, zeros included.
        places: Positions of the numbers that are not 0, ascending.
        values: These numbers.
    """

    length: Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBERS)]
    places: Annotated[tuple[Place, ...], msgspec.Meta(max_length=MAX_NUMBERS)] = ()
    values: Annotated[tuple[Finite, ...], msgspec.Meta(max_length=MAX_NUMBERS)] = ()


class PackedScores(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a device has measured of one exit.

    Attributes:
        sums: Sums of the task by name.
        metrics: Metrics by name, of a task of the user's own.
    """

    sums: Annotated[dict[SumsName, PackedArray], msgspec.Meta(max_length=MAX_SUMS)]
    metrics: Annotated[dict[SumsName, Finite], msgspec.Meta(max_length=MAX_SUMS)] = {}


ScoresByDepth = Annotated[dict[Depth, PackedScores], msgspec.Meta(max_length=MAX_DEPTHS)]
"""What a device has measured, by depth of the exit."""


def packed_scores(scores: Mapping[int, HeldOutScores]) -> dict[int, PackedScores]:
    """Packs the scores of some exits for a message; returns none if they would take too many bytes."""
    whole = {
        depth: PackedScores(
            {name: _packed(values) for name, values in _bounded(of_exit.sums).items()},
            {name: _finite(value) for name, value in of_exit.metrics.items()},
        )
        for depth, of_exit in sorted(scores.items())
    }
    return whole if len(msgspec.json.encode(whole)) <= MAX_BYTES else {}


def unpacked_scores(scores: Mapping[int, PackedScores]) -> dict[int, HeldOutScores]:
    """Unpacks the scores that came with a message.

    Raises:
        PeerError: There are more numbers than any task has, or an array contradicts itself.
    """
    numbers = sum(array.length for of_exit in scores.values() for array in of_exit.sums.values())
    if numbers > MAX_EXIT_NUMBERS * MAX_DEPTHS:
        raise PeerError(f"scores of {numbers} numbers are more than any task has")
    return {
        depth: HeldOutScores({name: _unpacked(name, array) for name, array in of_exit.sums.items()}, of_exit.metrics)
        for depth, of_exit in scores.items()
    }


def _bounded(sums: MetricSums) -> MetricSums:
    """Leaves out what no main metric needs, by the lengths alone, so that all devices leave out the same."""
    if sum(map(len, sums.values())) <= MAX_EXIT_NUMBERS:
        return sums
    return {name: values for name, values in sums.items() if name not in DISPENSABLE}


def _packed(values: tuple[float, ...]) -> PackedArray:
    kept = [(place, _finite(value)) for place, value in enumerate(values) if value != 0]
    return PackedArray(len(values), tuple(place for place, _ in kept), tuple(value for _, value in kept))


def _finite(value: float) -> float:
    """Returns a number that JSON can say: a loss that is not a number is as bad as can be."""
    return LARGEST if math.isnan(value) else max(-LARGEST, min(LARGEST, value))


def _unpacked(name: str, array: PackedArray) -> tuple[float, ...]:
    places = array.places
    if len(places) != len(array.values) or any(later <= place for place, later in pairwise(places)):
        raise PeerError(f"the places of {name} are not ascending, or not as many as its values")
    if places and places[-1] >= array.length:
        raise PeerError(f"{name} has a value at place {places[-1]} of {array.length}")
    whole = [0.0] * array.length
    for place, value in zip(places, array.values, strict=True):
        whole[place] = value
    return tuple(whole)
