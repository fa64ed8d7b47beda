"""The work of one round as orders: which devices train from which model, with which values of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.periods import at_home, own_since
from fedlp_edge.core.round_events import Participant
from fedlp_edge.core.selection import retained
from fedlp_edge.core.settings import ComputeMode
from fedlp_edge.core.staleness import weight_in
from fedlp_edge.simulation.course import Closing
from fedlp_edge.simulation.engine import Job
from fedlp_edge.simulation.experiment import Experiment
from fedlp_edge.simulation.fleet import VirtualDevice
from fedlp_edge.simulation.keepsakes import Keepsakes
from fedlp_edge.simulation.orders import TrainDevice

TRAINING_COST = 3
"""Of a sample, in forward passes: the unit in which judging a model is counted as well."""


@dataclass(frozen=True)
class Shift:
    """Makes the orders of one run.

    Attributes:
        experiment: what to do.
        blueprint: of the model.
        fleet: by id.
        keepsakes: what stays on the devices.
        modes: how devices compute, by depth.
        fallen_back: devices in whose rounds that mode failed; as a real one would, they compute in float32 since.
    """

    experiment: Experiment
    blueprint: Blueprint
    fleet: Mapping[str, VirtualDevice]
    keepsakes: Keepsakes
    modes: Mapping[int, ComputeMode]
    fallen_back: set[str] = field(default_factory=set)

    def jobs(self, closing: Closing) -> list[Job]:
        """Of a round: all whose updates count, and those who only change what they keep."""
        counted = [self._job(closing, place, counted=True) for place in closing.contributors.values()]
        # A device that comes too late has trained its own values all the same.
        late = [place for place in closing.late.values() if self._kept(place.depth, place.task_round(closing.round))]
        return counted + [self._job(closing, place, counted=False) for place in late]

    def note_compute(self, device: str, depth: int, used: str) -> None:
        """Takes note of the mode that an update was computed in."""
        if used and used != self.modes.get(depth, used):
            self.fallen_back.add(device)

    def drawn(self, closing: Closing, place: Participant) -> dict[str, tuple[str, ...]]:
        """Names of the tensors that a device sends, by unit."""
        return retained(
            self.blueprint.exchanged_by(place.depth),
            lpr=place.lpr,
            lpr_of=place.lpr_of,
            seed=self.experiment.seed,
            round=place.task_round(closing.round),
            device=place.device,
            granularity=self.experiment.scheme.granularity,
        )

    def factor(self, closing: Closing, place: Participant) -> int:
        """On the weight of a device's update."""
        return weight_in(self.experiment.rounds, 1, place.task_round(closing.round), closing.round)

    def own_heads(self, round: int) -> Iterator[tuple[str, int, int]]:
        """Devices that have a personal head when a round is over, their depths, and the rounds that left the heads."""
        for name, device in sorted(self.fleet.items()):
            depth = device.plan.depth
            if depth and self._personal(depth) and (made := self.keepsakes.before(name, round + 1)):
                yield name, depth, made

    def _job(self, closing: Closing, place: Participant, *, counted: bool) -> Job:
        number = place.task_round(closing.round)
        before, take = self._taken(place, number)
        order = TrainDevice(
            number=self.fleet[place.device].number,
            device=place.device,
            round=number,
            version=number - 1,
            capacity=closing.capacity,
            depth=place.depth,
            retained=self.drawn(closing, place),
            encoding=place.encoding,
            compute="float32" if place.device in self.fallen_back else self.modes[place.depth],
            thrift=place.thrift,
            factor=self.factor(closing, place),
            most=place.weight,
            own=self.keepsakes.read(place.device, before) if take else b"",
            take=take,
            keep=self._kept(place.depth, number),
            counted=counted,
        )
        macs = TRAINING_COST * self.blueprint.costs[place.depth - 1].forward_macs
        return Job(order, cost=float(macs * place.samples * self.experiment.training.epochs))

    def _personal(self, depth: int) -> tuple[str, ...]:
        """Heads that never leave a device of this depth and go on where its last round left them."""
        if self.experiment.scheme.personal_heads == "reset":
            return ()
        exchanged = self.blueprint.exchanged_by(depth)
        return tuple(unit.id for unit in self.blueprint.held_by(depth) if unit not in exchanged)

    def _taken(self, place: Participant, round: int) -> tuple[int, tuple[str, ...]]:
        """The round that left values on a device, and the units that it takes from there."""
        before = self.keepsakes.before(place.device, round)
        if not before:
            return 0, ()
        since = own_since(self.experiment.scheme.exchange_every, self._exchanged(place.depth), round)
        return before, (*self._personal(place.depth), *(unit for unit, first in since.items() if before >= first))

    def _kept(self, depth: int, round: int) -> tuple[str, ...]:
        """Units whose values stay on a device of this depth after a round."""
        every = self.experiment.scheme.exchange_every
        return (*self._personal(depth), *at_home(every, self._exchanged(depth), round))

    def _exchanged(self, depth: int) -> list[str]:
        return [unit.id for unit in self.blueprint.exchanged_by(depth)]
