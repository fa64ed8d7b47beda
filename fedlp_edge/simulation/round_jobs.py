"""This module makes the train jobs of a round: the devices, the model versions they start from, their own values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from fedlp_edge.core.algorithm.periods import reuse_since, withheld_units
from fedlp_edge.core.algorithm.selection import draw_sent_tensors
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.learning_rate import training_in_round
from fedlp_edge.core.rounds.events import CohortMember
from fedlp_edge.core.rounds.staleness import weight_in
from fedlp_edge.core.settings import ComputeMode
from fedlp_edge.simulation.engines.base import QueuedJob
from fedlp_edge.simulation.engines.jobs import JudgeDevice, TrainDevice
from fedlp_edge.simulation.experiment import Experiment
from fedlp_edge.simulation.fleet import VirtualDevice
from fedlp_edge.simulation.schedule import RoundClosing
from fedlp_edge.storage.device_values import DeviceValues

TRAINING_COST = 3
"""Cost of training on one sample, in forward passes, which is also the unit of the cost of an evaluation."""


@dataclass(frozen=True)
class RoundJobs:
    """The factory of the train jobs of one run.

    Attributes:
        experiment: Experiment.
        blueprint: Blueprint of the model.
        fleet: Devices by id.
        device_values: Withheld values of the devices.
        modes: Compute mode by depth.
        residuals: Residuals of the devices; None without error feedback.
        fallen_back: Ids of the devices whose compute mode failed; like real ones, they compute in float32 since.
        last_counted: Round of the last task of each device whose update is in the model, by id.
    """

    experiment: Experiment
    blueprint: Blueprint
    fleet: Mapping[str, VirtualDevice]
    device_values: DeviceValues
    modes: Mapping[int, ComputeMode]
    residuals: DeviceValues | None = None
    fallen_back: set[str] = field(default_factory=set)
    last_counted: dict[str, int] = field(default_factory=dict)

    def jobs(self, closing: RoundClosing) -> list[QueuedJob]:
        """Returns the jobs of a round: the devices whose updates count, and late ones that change their own values."""
        counted = [self._job(closing, place, counted=True) for place in closing.contributors.values()]
        # A device that comes too late has trained what stays on it all the same.
        late = [p for p in closing.late.values() if self._withheld(p.depth, p.task_round(closing.round))]
        return counted + [self._job(closing, place, counted=False) for place in late]

    def note_compute(self, device: str, depth: int, used: str) -> None:
        """Records the compute mode that an update was computed in."""
        if used and used != self.modes.get(depth, used):
            self.fallen_back.add(device)

    def drawn(self, closing: RoundClosing, place: CohortMember) -> dict[str, tuple[str, ...]]:
        """Returns the names of the tensors that a device sends, by unit id."""
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
        """Returns the factor of a device's update weight."""
        return weight_in(self.experiment.rounds, 1, place.task_round(closing.round), closing.round)

    def personal_heads_after(self, round: int) -> Iterator[tuple[str, int, int]]:
        """Yields the devices with a personal head after a round, with depth and the last round that trained it."""
        for name, device in sorted(self.fleet.items()):
            depth = device.plan.depth
            if depth and self._personal(depth) and (made := self.device_values.before(name, round + 1)) is not None:
                yield name, depth, made

    def judgements(self, version: int, round: int) -> Iterator[QueuedJob]:
        """Yields the jobs that judge a version of the model on what each device holds out, after a round."""
        for name, device in sorted(self.fleet.items()):
            if not (depth := device.plan.depth):
                continue
            personal = self._personal(depth)
            made = self.device_values.before(name, round + 1) if personal else None
            job = JudgeDevice(
                number=device.number,
                device=name,
                version=version,
                depth=depth,
                reused=personal if made is not None else (),
                reused_values=b"" if made is None else self.device_values.read(name, made),
            )
            yield QueuedJob(job, cost=float(self.blueprint.costs[depth - 1].forward_macs * device.member.samples))

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
            training=training_in_round(self.experiment.training, number, self.experiment.rounds.count),
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
            residuals=self._residuals_of(place) if counted else None,
        )
        macs = TRAINING_COST * self.blueprint.costs[place.depth - 1].forward_macs
        return QueuedJob(job, cost=float(macs * place.samples * self.experiment.training.epochs))

    def _residuals_of(self, place: CohortMember) -> bytes | None:
        """Returns the residuals of a device's last update that counted; None without error feedback."""
        if self.residuals is None or place.encoding == "none":
            return None
        last = self.last_counted.get(place.device, 0)
        there = last and self.residuals.before(place.device, last + 1) == last
        return self.residuals.read(place.device, last) if there else b""

    def _personal(self, depth: int) -> tuple[str, ...]:
        """Returns the ids of the personal heads of a depth, whose training continues from the device's last round."""
        if self.experiment.scheme.personal_heads == "reset":
            return ()
        return tuple(unit.id for unit in self.blueprint.personal_of(depth))

    def _reused(self, place: CohortMember, round: int) -> tuple[int, tuple[str, ...]]:
        """Returns the round that left values on a device, and the units that start from these values."""
        before = self.device_values.before(place.device, round)
        if before is None:
            return 0, ()
        since = reuse_since(self.experiment.scheme.exchange_every, self._exchanged(place.depth), round)
        return before, (*self._personal(place.depth), *(unit for unit, first in since.items() if before >= first))

    def _withheld(self, depth: int, round: int) -> tuple[str, ...]:
        """Returns the units whose values a device of this depth withholds after a round."""
        every = self.experiment.scheme.exchange_every
        return (*self._personal(depth), *withheld_units(every, self._exchanged(depth), round))

    def _exchanged(self, depth: int) -> list[str]:
        return [unit.id for unit in self.blueprint.exchanged_by(depth)]
