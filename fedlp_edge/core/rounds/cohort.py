"""Keeps the places of the devices in a round, whether an update has arrived, is awaited or will not come."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import msgspec

from fedlp_edge.core.algorithm.global_model import GlobalModel
from fedlp_edge.core.rounds.events import CohortMember

Key = tuple[str, int]
"""Device id, and round of its task."""

Assign = Callable[[int, CohortMember], CohortMember]
"""Function from a round and a place to the place with the layer-preserving rates of its units."""


def rates_of(model: GlobalModel) -> Assign:
    """Returns a function that gives places the layer-preserving rates that a global model gives."""

    def assign(round: int, place: CohortMember) -> CohortMember:
        rates = model.rates(round, place.depth, place.lpr, place.encoding)
        return msgspec.structs.replace(place, lpr_of=rates)

    return assign


def as_drawn(round: int, place: CohortMember) -> CohortMember:  # noqa: ARG001  # an Assign
    """Returns the place unchanged, so that all of its units have its plain rate."""
    return place


class Cohort:
    """The places of one round, which only its round machine changes.

    A place is identified by its device and the round of its task. In a synchronous run this is the round of the cohort;
    in an asynchronous one, a device may have delivered an older task and work on a newer one.

    Args:
        round: Number of the round.
        places: Places when the round opens.

    Attributes:
        round: Number of the round.
    """

    def __init__(self, round: int, places: Iterable[CohortMember] = ()) -> None:
        self.round = round
        self._places: dict[Key, CohortMember] = {self.key(place): place for place in places}

    @property
    def places(self) -> tuple[CohortMember, ...]:
        """All places, by device; in an asynchronous run a device may have two."""
        return tuple(self._places[key] for key in sorted(self._places))

    def place(self, device: str, round: int) -> CohortMember | None:
        """Returns the place of a device for its task of ``round``; None if it has none."""
        return self._places.get((device, round))

    def key(self, place: CohortMember) -> Key:
        """Returns the device of a place, and the round of its task."""
        return place.device, place.task_round(self.round)

    def add(self, places: Collection[CohortMember], delivered: Iterable[CohortMember] = ()) -> None:
        """Adds places, and removes the other places of their devices unless their updates were delivered.

        Args:
            places: New places.
            delivered: Places whose updates have arrived.
        """
        newcomers, here = {place.device for place in places}, {self.key(place) for place in delivered}
        for key in [key for key in self._places if key[0] in newcomers and key not in here]:
            del self._places[key]
        self._places.update({self.key(place): place for place in places})
