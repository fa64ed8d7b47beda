"""Who is in a round: the places of its devices, whether an update has arrived, is awaited or will not come."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import msgspec

from fedlp_edge.core.algorithm.global_model import GlobalModel
from fedlp_edge.core.rounds.events import CohortMember

Key = tuple[str, int]
"""A device, and the round of its task."""

Assign = Callable[[int, CohortMember], CohortMember]
"""Gives a place of a round the rates of its device's units."""


def rates_of(model: GlobalModel) -> Assign:
    """Has the global model say at which rates the units of a place are sent."""

    def assign(round: int, place: CohortMember) -> CohortMember:
        rates = model.rates(round, place.depth, place.lpr, place.encoding)
        return msgspec.structs.replace(place, lpr_of=rates)

    return assign


def as_drawn(round: int, place: CohortMember) -> CohortMember:  # noqa: ARG001  # an Assign
    """The place as it is: all of its units have its one rate."""
    return place


class Cohort:
    """The places of one round; its machine alone changes them.

    A place is known by its device and the round of its task. In a synchronous run that is the round itself; in an
    asynchronous one a device may have delivered an older task and have a newer one.

    Args:
        round: its number.
        places: with which it opens.

    Attributes:
        round: its number.
    """

    def __init__(self, round: int, places: Iterable[CohortMember] = ()) -> None:
        self.round = round
        self._places: dict[Key, CohortMember] = {self.key(place): place for place in places}

    @property
    def places(self) -> tuple[CohortMember, ...]:
        """All places, by device; in an asynchronous run a device may have two."""
        return tuple(self._places[key] for key in sorted(self._places))

    def place(self, device: str, round: int) -> CohortMember | None:
        """The place of a device for its task of a round."""
        return self._places.get((device, round))

    def key(self, place: CohortMember) -> Key:
        """The device of a place, and the round of its task."""
        return place.device, place.task_round(self.round)

    def add(self, places: Collection[CohortMember], delivered: Iterable[CohortMember] = ()) -> None:
        """Takes further devices in, or gives one whose update will not come a new place.

        Args:
            places: new ones; what else such a device has is void, unless it was delivered.
            delivered: places whose updates are here.
        """
        newcomers, here = {place.device for place in places}, {self.key(place) for place in delivered}
        for key in [key for key in self._places if key[0] in newcomers and key not in here]:
            del self._places[key]
        self._places.update({self.key(place): place for place in places})
