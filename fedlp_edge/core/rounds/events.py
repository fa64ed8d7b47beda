"""What a round machine is told and what it answers: events in, effects out, and the phases of a run.

Plain values without behaviour, the same for every machine (``rounds`` and ``buffered``), for the coordinator and for
the simulation, which both carry the effects out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import msgspec

from fedlp_edge.core.rounds.fitness import DeviceFault, Fitness
from fedlp_edge.core.settings import Encoding, MemorySaving


class Phase(Enum):
    """Where a run stands."""

    WAITING = "waiting for devices"
    COLLECTING = "collecting updates"
    CLOSING = "aggregating and evaluating"
    FINISHED = "finished"


TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    Phase.WAITING: frozenset({Phase.COLLECTING}),
    Phase.COLLECTING: frozenset({Phase.CLOSING}),
    Phase.CLOSING: frozenset({Phase.WAITING, Phase.FINISHED}),
    Phase.FINISHED: frozenset(),
}


def move(phase: Phase, to: Phase) -> Phase:
    """The phase after a step.

    Raises:
        ValueError: no run goes this way.
    """
    if to not in TRANSITIONS[phase]:
        raise ValueError(f"a run cannot go from {phase.value!r} to {to.value!r}")
    return to


class CohortMember(msgspec.Struct, frozen=True):
    """One place in a cohort, fixed when it is given.

    Attributes:
        device: id.
        depth: of its submodel.
        lpr: layer-preserving rate.
        samples: that it announced; its update may rest on no more.
        weight: the most that its update can weigh: ``samples``, or less if that is far more than others have; 1 for
            uniform weights.
        replacement: taken in when the round was extended; it does not raise the quorum.
        encoding: of the numbers in its update.
        lpr_of: rate by unit id, for units whose rate is not ``lpr`` (see ``GlobalModel.rates``).
        memory_saving: how it saves memory in training.
        round: whose task it has, where rounds overlap (buffered mode); 0 is the round that the place belongs to.
    """

    device: str
    depth: int
    lpr: float
    samples: int
    weight: int
    replacement: bool = False
    encoding: Encoding = "none"
    lpr_of: dict[str, float] = {}
    round: int = 0
    memory_saving: MemorySaving = MemorySaving()

    def task_round(self, round: int) -> int:
        """The number of the task of this place in an open round: what its draws and its update are named after."""
        return self.round or round


# Events


@dataclass(frozen=True)
class DeviceReported:
    """A device is there; whether it can take part is not known yet."""

    device: str


@dataclass(frozen=True)
class DeviceReady:
    """A device holds its submodel and waits for work (again)."""

    member: CohortMember


@dataclass(frozen=True)
class DeviceGone:
    """A device went offline; it keeps its place in an open round, and gets its task again when it is back."""

    device: str


@dataclass(frozen=True)
class DeviceUnable:
    """A device cannot even hold its submodel, or bears none."""

    device: str
    fault: DeviceFault
    reason: str


@dataclass(frozen=True)
class DeviceRenewed:
    """A device is another one than when it failed: started again, or with other data."""

    device: str


@dataclass(frozen=True)
class UpdateArrived:
    """An update of the open round was admitted and is safe on disk."""

    device: str


@dataclass(frozen=True)
class UpdateMissed:
    """An update of the open round will not come: refused on admission, or the device gave up.

    Attributes:
        fault: what that says about the device; None if nothing, as when it was just told to do less.
        reason: in words.
    """

    device: str
    fault: DeviceFault | None = None
    reason: str = ""


@dataclass(frozen=True)
class ModelOutdated:
    """A device asks for a model that newer rounds have replaced, so it cannot do its task (buffered mode)."""

    device: str


@dataclass(frozen=True)
class RoundCommitted:
    """Aggregated, evaluated, checkpointed."""

    round: int


@dataclass(frozen=True)
class TimePassed:
    """Only time has passed."""


Event = (
    DeviceReported
    | DeviceReady
    | DeviceGone
    | DeviceUnable
    | DeviceRenewed
    | UpdateArrived
    | UpdateMissed
    | ModelOutdated
    | RoundCommitted
    | TimePassed
)


# Effects


@dataclass(frozen=True)
class OpenRound:
    """Publish the model and give these devices their tasks.

    Attributes:
        cohort: its places. In buffered mode those that earlier rounds gave are among them; whoever has a place
            of this round gets a task now.
        weight_capacity: bound of the summed weights, for the exact average.
    """

    round: int
    cohort: tuple[CohortMember, ...]
    weight_capacity: int


@dataclass(frozen=True)
class AddPlaces:
    """Give these devices tasks of the open round, too (buffered mode).

    Attributes:
        added: new places; a place that such a device had is void.
        weight_capacity: from now on; larger than before if the new places need it.
    """

    round: int
    added: tuple[CohortMember, ...]
    weight_capacity: int


@dataclass(frozen=True)
class ExtendRound:
    """Too few updates by the deadline, or all that can come: another deadline, and these devices in addition.

    Attributes:
        added: new places; a device whose update was missed may be among them, with a place of its own anew.
        contributors: updates so far.
        quorum: updates needed.
        weight_capacity: from now on; larger than before if the new places need it.
    """

    round: int
    added: tuple[CohortMember, ...]
    contributors: int
    quorum: int
    weight_capacity: int


@dataclass(frozen=True)
class SendTask:
    """Tell a device of the open round (again) what to do."""

    round: int
    device: str


@dataclass(frozen=True)
class CloseRound:
    """Average what these devices sent, evaluate, write the checkpoint, then report RoundCommitted."""

    round: int
    contributors: tuple[str, ...]
    lost: tuple[str, ...]


@dataclass(frozen=True)
class TooFewDevices:
    """Not enough devices for a round."""

    present: int
    wanted: int


@dataclass(frozen=True)
class FitnessChanged:
    """A device failed, or is trusted again."""

    device: str
    fitness: Fitness


@dataclass(frozen=True)
class NoDeviceFit:
    """None of the devices that are there can do its task.

    Attributes:
        reasons: by device.
        seconds: after which the run is given up, unless a device comes or changes; 0: it is given up.
    """

    reasons: dict[str, str]
    seconds: float


@dataclass(frozen=True)
class FinishRun:
    """The last round is committed."""


Effect = (
    OpenRound
    | AddPlaces
    | ExtendRound
    | SendTask
    | CloseRound
    | TooFewDevices
    | FitnessChanged
    | NoDeviceFit
    | FinishRun
)
