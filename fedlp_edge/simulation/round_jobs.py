"""The work of one round as orders: which devices train from which model, with which values of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from fedlp_edge.core.algorithm.periods import reuse_since, withheld_units
from fedlp_edge.core.algorithm.selection import draw_sent_tensors
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.rounds.events import CohortMember
from fedlp_edge.core.rounds.staleness import weight_in
from fedlp_edge.core.settings import ComputeMode
from fedlp_edge.simulation.engines.base import QueuedJob
from fedlp_edge.simulation.engines.jobs import TrainDevice
from fedlp_edge.simulation.experiment import Experiment
from fedlp_edge.simulation.fleet import VirtualDevice
from fedlp_edge.simulation.schedule import RoundClosing
from fedlp_edge.storage.device_values import DeviceValues

TRAINING_COST = 3
"""Of a sample, in forward passes: the unit in which judging a model is counted as well."""


@dataclass(frozen=True)
class RoundJobs:
    """Makes the orders of one run.

    Attributes:
        experiment: what to do.
        blueprint: of the model.
        fleet: by id.
        device_values: what stays on the devices.
        modes: how devices compute, by depth.
        fallen_back: devices in whose rounds that mode failed; as a real one would, they compute in float32 since.
    """

    experiment: Experiment
    blueprint: Blueprint
    fleet: Mapping[str, VirtualDevice]
    device_values: DeviceValues
    modes: Mapping[int, ComputeMode]
    fallen_back: set[str] = field(default_factory=set)

    def jobs(self, closing: RoundClosing) -> list[QueuedJob]:
        """Of a round: all whose updates count, and those who only change what they keep."""
        counted = [self._job(closing, place, counted=True) for place in closing.contributors.values()]
        # A device that comes too late has trained what stays on it all the same.
        late = [p for p in closing.late.values() if self._withheld(p.depth, p.task_round(closing.round))]
        return counted + [self._job(closing, place, counted=False) for place in late]

    def note_compute(self, device: str, depth: int, used: str) -> None:
        """Takes note of the mode that an update was computed in."""
        if used and used != self.modes.get(depth, used):
            self.fallen_back.add(device)

    def drawn(self, closing: RoundClosing, place: CohortMember) -> dict[str, tuple[str, ...]]:
        """Names of the tensors that a device sends, by unit."""
        return draw_sent_tensors(
            self.blueprint.exchanged_by(place.depth),
            lpr=place.lpr,
            lpr_of=place.lpr_of,
            seed=self.experiment.seed,
            round=place.task_round(closing.round),
            device=place.device,
            granularity=self.experiment.scheme.granularity,
        )

    def factor(self, closing: RoundClosing, place: CohortMember) -> int:
        """On the weight of a device's update."""
        return weight_in(self.experiment.rounds, 1, place.task_round(closing.round), closing.round)

    def own_heads(self, round: int) -> Iterator[tuple[str, int, int]]:
        """Devices that have a personal head when a round is over, their depths, and the rounds that left the heads."""
        for name, device in sorted(self.fleet.items()):
            depth = device.plan.depth
            if depth and self._personal(depth) and (made := self.device_values.before(name, round + 1)) is not None:
                yield name, depth, made

    def _job(self, closing: RoundClosing, place: CohortMember, *, counted: bool) -> QueuedJob:
        number = place.task_round(closing.round)
        before, reused = self._reused(place, number)
        job = TrainDevice(
            number=self.fleet[place.device].number,
            device=place.device,
            round=number,
            version=number - 1,
            capacity=closing.capacity,
            depth=place.depth,
            sent=self.drawn(closing, place),
            encoding=place.encoding,
            compute="float32" if place.device in self.fallen_back else self.modes[place.depth],
            memory_saving=place.memory_saving,
            factor=self.factor(closing, place),
            most=place.weight,
            withheld=self._withheld(place.depth, number),
            reused=reused,
            reused_values=self.device_values.read(place.device, before) if reused else b"",
            counted=counted,
        )
        macs = TRAINING_COST * self.blueprint.costs[place.depth - 1].forward_macs
        return QueuedJob(job, cost=float(macs * place.samples * self.experiment.training.epochs))

    def _personal(self, depth: int) -> tuple[str, ...]:
        """Heads that never leave a device of this depth and go on where its last round left them."""
        if self.experiment.scheme.personal_heads == "reset":
            return ()
        return tuple(unit.id for unit in self.blueprint.personal_of(depth))

    def _reused(self, place: CohortMember, round: int) -> tuple[int, tuple[str, ...]]:
        """The round that left values on a device, and the units that start from them."""
        before = self.device_values.before(place.device, round)
        if before is None:
            return 0, ()
        since = reuse_since(self.experiment.scheme.exchange_every, self._exchanged(place.depth), round)
        return before, (*self._personal(place.depth), *(unit for unit, first in since.items() if before >= first))

    def _withheld(self, depth: int, round: int) -> tuple[str, ...]:
        """Units whose values stay on a device of this depth after a round."""
        every = self.experiment.scheme.exchange_every
        return (*self._personal(depth), *withheld_units(every, self._exchanged(depth), round))

    def _exchanged(self, depth: int) -> list[str]:
        return [unit.id for unit in self.blueprint.exchanged_by(depth)]
