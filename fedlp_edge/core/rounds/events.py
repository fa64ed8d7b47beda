"""Defines the events that a round machine takes, the effects that it returns, and the phases of a run.

Events and effects are plain values, common to both modes (``synchronous`` and ``buffered``). The coordinator and the
simulation report events and carry out effects.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import msgspec

from fedlp_edge.core.rounds.fitness import DeviceFault, Fitness
from fedlp_edge.core.settings import Encoding, MemorySaving


class Phase(Enum):
    """The phase of a run."""

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
    """Returns the next phase after checking the transition.

    Args:
        phase: Present phase.
        to: Next phase.

    Raises:
        ValueError: A run cannot go from ``phase`` to ``to``.
    """
    if to not in TRANSITIONS[phase]:
        raise ValueError(f"a run cannot go from {phase.value!r} to {to.value!r}")
    return to


class CohortMember(msgspec.Struct, frozen=True):
    """One place in a cohort: a device with the values that hold for its task.

    Attributes:
        device: Device id.
        depth: Depth of its submodel.
        lpr: Layer-preserving rate of its units.
        samples: Samples that it announced; its update may count no more.
        weight: Largest weight of its update: ``samples``, or less if other devices have far fewer; 1 for uniform
            weights.
        replacement: Whether the place was added when the round was extended; such a place does not raise the quorum.
        encoding: Encoding of its update.
        lpr_of: Layer-preserving rate by unit id, for units whose rate is not ``lpr`` (see ``GlobalModel.rates``).
        memory_saving: Techniques that save memory in its training.
        round: Round of its task in buffered mode, where rounds overlap; 0 for the round that the place belongs to.
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
        """Returns the round of the task of this place, which its draws and its update are named after.

        Args:
            round: Round that the place belongs to.
        """
        return self.round or round


# Events


@dataclass(frozen=True)
class DeviceReported:
    """A device is online; whether it can take part is not known yet."""

    device: str


@dataclass(frozen=True)
class DeviceReady:
    """A device holds its submodel and waits for a task."""

    member: CohortMember


@dataclass(frozen=True)
class DeviceGone:
    """A device went offline; it keeps its place in an open round and gets its task again when it is ready.

    Attributes:
        device: Device id.
        ended: Whether its agent was ended and said so. Without that its connection may be lost for a while.
    """

    device: str
    ended: bool = False


@dataclass(frozen=True)
class DeviceUnable:
    """A device cannot hold its submodel, or is too weak for any.

    Attributes:
        device: Device id.
        fault: Kind of the failure.
        reason: Cause, for people.
    """

    device: str
    fault: DeviceFault
    reason: str


@dataclass(frozen=True)
class DeviceChanged:
    """A device has changed since it failed: its agent was restarted, or it has other data."""

    device: str


@dataclass(frozen=True)
class UpdateArrived:
    """An update of the open round was admitted and is safe on disk."""

    device: str


@dataclass(frozen=True)
class UpdateMissed:
    """An update of the open round will not come: it was refused on admission, or the device gave up.

    Attributes:
        device: Device id.
        fault: Kind of the failure; None if the device did not fail, as when its plan was changed.
        reason: Cause, for people.
    """

    device: str
    fault: DeviceFault | None = None
    reason: str = ""


@dataclass(frozen=True)
class ModelOutdated:
    """A device asks for a model that newer rounds have replaced, so it cannot do its task (only in buffered mode)."""

    device: str


@dataclass(frozen=True)
class RoundCommitted:
    """A round was aggregated, evaluated and written to a checkpoint.

    Attributes:
        round: Number of the round.
        enough: Whether the run has learned enough, so that it ends with this round.
    """

    round: int
    enough: bool = False


@dataclass(frozen=True)
class TimePassed:
    """Time has passed and nothing else happened."""


Event = (
    DeviceReported
    | DeviceReady
    | DeviceGone
    | DeviceUnable
    | DeviceChanged
    | UpdateArrived
    | UpdateMissed
    | ModelOutdated
    | RoundCommitted
    | TimePassed
)


# Effects


@dataclass(frozen=True)
class OpenRound:
    """Orders to publish the model and to give the devices of a new cohort their tasks.

    Attributes:
        round: Number of the round.
        cohort: Places of the round. In buffered mode, places from earlier rounds are among them; only devices with a
            place of this round get a task now.
        weight_capacity: Upper bound of the summed weights, for the exact average.
    """

    round: int
    cohort: tuple[CohortMember, ...]
    weight_capacity: int


@dataclass(frozen=True)
class AddPlaces:
    """Orders to give further devices tasks of the open round (only in buffered mode).

    Attributes:
        round: Number of the round.
        added: New places; each replaces the place that its device had.
        weight_capacity: Upper bound of the summed weights from now on, larger than before if the new places need it.
    """

    round: int
    added: tuple[CohortMember, ...]
    weight_capacity: int


@dataclass(frozen=True)
class ExtendRound:
    """Orders to extend a round that has too few updates, with a new deadline and further devices.

    Attributes:
        round: Number of the round.
        added: New places; a device whose update will not come may get a new place.
        contributors: Number of updates so far.
        quorum: Number of updates that are needed.
        weight_capacity: Upper bound of the summed weights from now on, larger than before if the new places need it.
    """

    round: int
    added: tuple[CohortMember, ...]
    contributors: int
    quorum: int
    weight_capacity: int


@dataclass(frozen=True)
class SendTask:
    """Orders to send a device of the open round its task again."""

    round: int
    device: str


@dataclass(frozen=True)
class CloseRound:
    """Orders to aggregate the updates of a round, evaluate, write the checkpoint, and report ``RoundCommitted``.

    Attributes:
        round: Number of the round.
        contributors: Ids of the devices whose updates count.
        lost: Ids of the devices whose updates did not come.
    """

    round: int
    contributors: tuple[str, ...]
    lost: tuple[str, ...]


@dataclass(frozen=True)
class TooFewDevices:
    """Reports that too few devices are ready for a round.

    Attributes:
        present: Number of devices that are ready.
        wanted: Number of devices that are needed.
        unable: Number of devices that are online and cannot take part; those that are needed come on top.
        preparing: Number of devices that are online and not ready yet: the fleet agrees on its data, or they build
            their model.
    """

    present: int
    wanted: int
    unable: int = 0
    preparing: int = 0


@dataclass(frozen=True)
class FitnessChanged:
    """Reports that a device failed, or that its failures no longer count."""

    device: str
    fitness: Fitness


@dataclass(frozen=True)
class NoDeviceFit:
    """Reports that no device that is online can do its task.

    Attributes:
        reasons: Cause by device id, for people.
        seconds: Seconds until the run ends, unless a device comes or changes; 0 ends it now.
    """

    reasons: dict[str, str]
    seconds: float


@dataclass(frozen=True)
class FinishRun:
    """Reports that the last round is committed and the run ends."""


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
