"""The course of a run as a state machine: events and the time go in, effects come out.

It owns the decisions (when a round opens, with whom, when it closes, what happens when too few devices
answer) and nothing else: no clock, no network, no files, no hidden randomness. The coordinator carries the
effects out; a test feeds literal events and never sleeps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

import msgspec

from fedlp_edge.core.selection import cohort
from fedlp_edge.core.settings import Count, Encoding, NotNegative, Positive, Share


class RoundSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a round opens and closes.

    Attributes:
        count: rounds of the run.
        devices_per_round: size of the cohort; 0 takes every device that is ready.
        min_devices: the first round waits for this many, and no round opens with fewer.
        deadline_seconds: from the opening of a round; who is later is left out.
        quorum: share of the cohort whose updates make a round count.
        rejoin_seconds: after a restart of the coordinator, how long to wait for the devices that were there.
        keep_checkpoints: how many of the latest checkpoints stay on disk; 0 keeps all.
    """

    count: Count = 10
    devices_per_round: int = msgspec.field(default=0)
    min_devices: Count = 1
    deadline_seconds: Positive = 300.0
    quorum: Share = 0.5
    rejoin_seconds: NotNegative = 20.0
    keep_checkpoints: int = 0

    def __post_init__(self) -> None:
        if self.devices_per_round < 0:
            raise ValueError(f"devices_per_round must be 0 (all) or more, not {self.devices_per_round}")
        if self.keep_checkpoints < 0:
            raise ValueError(f"keep_checkpoints must be 0 (all) or more, not {self.keep_checkpoints}")
        if 0 < self.devices_per_round < self.min_devices:
            raise ValueError(
                f"min_devices ({self.min_devices}) is more than devices_per_round ({self.devices_per_round})"
            )


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


class Participant(msgspec.Struct, frozen=True):
    """One place in a cohort, fixed when the round opens.

    Attributes:
        device: id.
        depth: of its submodel.
        lpr: layer-preserving rate.
        samples: that it announced; its update may rest on no more.
        weight: the most that its update can weigh: ``samples``, or 1 for uniform weights.
        replacement: taken in when the round was extended; it does not raise the quorum.
        encoding: of the numbers in its update.
        lpr_of: rate by unit id, for units whose rate is not ``lpr`` (see ``GlobalModel.assign``).
    """

    device: str
    depth: int
    lpr: float
    samples: int
    weight: int
    replacement: bool = False
    encoding: Encoding = "none"
    lpr_of: dict[str, float] = {}


# Events


@dataclass(frozen=True)
class DeviceReady:
    """A device holds its submodel and waits for work (again)."""

    participant: Participant


@dataclass(frozen=True)
class DeviceGone:
    """A device went offline; it keeps its place in an open round, and gets its task again when it is back."""

    device: str


@dataclass(frozen=True)
class UpdateArrived:
    """An update of the open round was admitted and is safe on disk."""

    device: str


@dataclass(frozen=True)
class UpdateMissed:
    """An update of the open round will not come: refused on admission, or the device gave up."""

    device: str


@dataclass(frozen=True)
class RoundCommitted:
    """Aggregated, evaluated, checkpointed."""

    round: int


@dataclass(frozen=True)
class Tick:
    """Only time has passed."""


Event = DeviceReady | DeviceGone | UpdateArrived | UpdateMissed | RoundCommitted | Tick


# Effects


@dataclass(frozen=True)
class OpenRound:
    """Publish the model and give these devices their tasks.

    Attributes:
        weight_capacity: bound of the summed weights, for the exact average.
    """

    round: int
    participants: tuple[Participant, ...]
    weight_capacity: int


@dataclass(frozen=True)
class ExtendRound:
    """Too few updates by the deadline: another deadline, and these devices in addition.

    Attributes:
        added: new places; a device whose update was missed may be among them, with a place of its own anew.
        contributors: updates so far.
        quorum: updates needed.
        weight_capacity: from now on; larger than before if the new places need it.
    """

    round: int
    added: tuple[Participant, ...]
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
class StillWaiting:
    """Not enough devices for a round."""

    present: int
    wanted: int


@dataclass(frozen=True)
class FinishRun:
    """The last round is committed."""


Effect = OpenRound | ExtendRound | SendTask | CloseRound | StillWaiting | FinishRun


@dataclass
class _OpenRound:
    round: int
    deadline: float
    capacity: int
    quorum: int
    participants: dict[str, Participant]
    arrived: set[str] = field(default_factory=set)
    missed: set[str] = field(default_factory=set)

    @property
    def resolved(self) -> bool:
        return len(self.arrived) + len(self.missed) == len(self.participants)

    @property
    def complete(self) -> bool:
        """Nothing more can come, and what came is enough."""
        return self.resolved and len(self.arrived) >= self.quorum

    @property
    def weight(self) -> int:
        """The most that all updates can weigh, missed ones too: after a restart they may be wanted again."""
        return sum(p.weight for p in self.participants.values())


class RoundMachine:
    """A run from round ``next_round`` on.

    Args:
        settings: sizes and times.
        seed: of the run.
        next_round: 1, or the first uncommitted round after a restart.
        expected: devices that were ready before a restart; they are waited for, ``rejoin_seconds`` long.
        now: the time, in seconds on any monotonic clock.
    """

    def __init__(
        self,
        settings: RoundSettings,
        seed: int,
        *,
        now: float,
        next_round: int = 1,
        expected: frozenset[str] = frozenset(),
    ) -> None:
        self._settings = settings
        self._seed = seed
        self._next_round = next_round
        self._expected = expected
        self._rejoin_until = now + settings.rejoin_seconds if expected else now
        self._ready: dict[str, Participant] = {}
        self._open: _OpenRound | None = None
        self._reported: tuple[int, int] | None = None
        self.phase = Phase.WAITING if next_round <= settings.count else Phase.FINISHED

    @property
    def round(self) -> int:
        """The open round, or the one that will open next."""
        return self._next_round

    def resume(
        self, opened: OpenRound, arrived: frozenset[str], now: float, *, missed: frozenset[str] = frozenset()
    ) -> None:
        """Takes up a round that was open when the coordinator ended; its deadline starts anew.

        Args:
            opened: the round with all its places, those of extensions included, and its latest capacity.
            arrived: devices whose updates are safe on disk.
            now: the time.
            missed: devices whose updates will not come.

        Raises:
            ValueError: it is not the round that comes next.
        """
        if opened.round != self._next_round:
            raise ValueError(f"round {opened.round} cannot be resumed when round {self._next_round} is next")
        self._move(Phase.COLLECTING)
        participants = {p.device: p for p in opened.participants}
        self._open = _OpenRound(
            opened.round,
            now + self._settings.deadline_seconds,
            opened.weight_capacity,
            self._quorum(sum(not p.replacement for p in opened.participants)),
            participants,
            arrived=set(arrived & participants.keys()),
            missed=set((missed - arrived) & participants.keys()),
        )

    def participant(self, device: str, round: int) -> Participant | None:
        """The place of a device in the open round, if ``round`` is open and its update is still wanted."""
        current = self._open
        if current is None or current.round != round or self.phase is not Phase.COLLECTING:
            return None
        if device in current.arrived or device in current.missed:
            return None
        return current.participants.get(device)

    def seconds_left(self, now: float) -> float:
        """Of the open round; 0 if none is open."""
        return max(0.0, self._open.deadline - now) if self._open else 0.0

    def wake_at(self) -> float | None:
        """When to send the next Tick at the latest; None if only events matter."""
        if self.phase is Phase.COLLECTING and self._open:
            # A resumed round may have been complete already: it is closed by the first Tick.
            return -math.inf if self._open.complete else self._open.deadline
        if self.phase is Phase.WAITING and self._missing():
            return self._rejoin_until
        return None

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Takes one event and returns what is to be done, in order."""
        effects: list[Effect] = []
        match event:
            case DeviceReady(participant):
                self._ready[participant.device] = participant
                self._welcome(participant, effects)
            case DeviceGone(device):
                self._ready.pop(device, None)
            case UpdateArrived(device):
                if self._open and self.participant(device, self._open.round):
                    self._open.arrived.add(device)
            case UpdateMissed(device):
                if self._open and self.participant(device, self._open.round):
                    self._open.missed.add(device)
            case RoundCommitted(round):
                self._commit(round, effects)
            case Tick():
                pass
        if self.phase is Phase.COLLECTING:
            self._collect(now, effects)
        if self.phase is Phase.WAITING:
            self._try_open(now, effects)
        return effects

    def _welcome(self, participant: Participant, effects: list[Effect]) -> None:
        """Gives a device that is (again) ready its task, if it has a place that it can still fill."""
        place = self.participant(participant.device, self._next_round)
        if place is None or self._open is None:
            return
        if place.depth == participant.depth:
            effects.append(SendTask(self._next_round, participant.device))
        else:
            # It was planned anew and holds another submodel now. An extension may give it a new place.
            self._open.missed.add(participant.device)

    def _quorum(self, cohort_size: int) -> int:
        # Less a trifle: 0.55 * 100 is a little more than 55 in floating point, and still means 55.
        return max(1, math.ceil(self._settings.quorum * cohort_size - 1e-9))

    def _missing(self) -> frozenset[str]:
        return self._expected - self._ready.keys()

    def _try_open(self, now: float, effects: list[Effect]) -> None:
        if now >= self._rejoin_until:
            self._expected = frozenset()
        wanted = max(self._settings.min_devices, len(self._missing()) + len(self._ready))
        if len(self._ready) < wanted:
            if self._reported != (len(self._ready), wanted):
                self._reported = (len(self._ready), wanted)
                effects.append(StillWaiting(len(self._ready), wanted))
            return
        self._expected, self._reported = frozenset(), None
        chosen = cohort(self._ready, self._settings.devices_per_round, seed=self._seed, round=self._next_round)
        participants = {device: self._ready[device] for device in chosen}
        # Twice what the cohort holds: replacements rarely have to change the scale of the sum.
        capacity = 2 * sum(p.weight for p in participants.values())
        deadline = now + self._settings.deadline_seconds
        quorum = self._quorum(len(participants))
        self._open = _OpenRound(self._next_round, deadline, capacity, quorum, participants)
        self._move(Phase.COLLECTING)
        effects.append(OpenRound(self._next_round, tuple(participants.values()), capacity))

    def _collect(self, now: float, effects: list[Effect]) -> None:
        current = self._open
        if current is None or (not current.resolved and now < current.deadline):
            return
        if len(current.arrived) >= current.quorum:
            contributors = tuple(sorted(current.arrived))
            lost = tuple(sorted(current.participants.keys() - current.arrived))
            self._move(Phase.CLOSING)
            effects.append(CloseRound(current.round, contributors, lost))
        elif now >= current.deadline:
            self._extend(current, now, effects)

    def _extend(self, current: _OpenRound, now: float, effects: list[Effect]) -> None:
        """Waits once more, and gives places to as many ready devices as are lacking."""
        wanted = current.quorum - len(current.arrived)
        retry = sorted(current.participants.keys() - current.arrived - current.missed)
        added = [self._place(current, device) for device in self._replacements(current, wanted)]
        current.participants.update({p.device: p for p in added})
        current.missed -= {p.device for p in added}
        current.capacity = max(current.capacity, current.weight)
        current.deadline = now + self._settings.deadline_seconds
        effects.append(ExtendRound(current.round, tuple(added), len(current.arrived), current.quorum, current.capacity))
        effects.extend(SendTask(current.round, device) for device in retry if device in self._ready)

    def _replacements(self, current: _OpenRound, wanted: int) -> list[str]:
        """Ready devices without a place first; then those that missed: the same device may do better now."""
        chosen: list[str] = []
        fresh = self._ready.keys() - current.participants.keys()
        for spare in (fresh, self._ready.keys() & current.missed):
            if len(chosen) < wanted:
                chosen += cohort(spare, wanted - len(chosen), seed=self._seed, round=current.round)
        return chosen

    def _place(self, current: _OpenRound, device: str) -> Participant:
        before = current.participants.get(device)
        return msgspec.structs.replace(self._ready[device], replacement=before is None or before.replacement)

    def _commit(self, round: int, effects: list[Effect]) -> None:
        if self.phase is not Phase.CLOSING or round != self._next_round:
            return
        self._open = None
        self._next_round += 1
        if self._next_round > self._settings.count:
            self._move(Phase.FINISHED)
            effects.append(FinishRun())
        else:
            self._move(Phase.WAITING)

    def _move(self, phase: Phase) -> None:
        if phase not in TRANSITIONS[self.phase]:
            raise ValueError(f"a run cannot go from {self.phase.value!r} to {phase.value!r}")
        self.phase = phase
