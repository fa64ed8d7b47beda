"""This module computes the state of a run from its events, which every view shows in its own way.

The state is a pure fold over the events.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import singledispatch
from typing import Literal

from fedlp_edge.core.device_scores import DeviceScores
from fedlp_edge.core.metrics.answers import AnswerMode
from fedlp_edge.core.metrics.serving_report import ServingReport
from fedlp_edge.reporting.events import (
    AllDevicesUnfit,
    AnyEvent,
    BrokerDisconnected,
    BrokerReconnected,
    DeviceFailed,
    DeviceJoined,
    DeviceLeft,
    DeviceServing,
    DeviceSetAside,
    DeviceUnfit,
    Event,
    Exporting,
    ModelDelivered,
    ModelExported,
    ModelRefused,
    ModelsProved,
    RoundFailed,
    RoundFinished,
    RoundStarted,
    RunFinished,
    RunStarted,
    RunStopped,
    UpdateAccepted,
    UpdateRejected,
    WaitingForBroker,
    WaitingForDevices,
    WorkerReplaced,
)
from fedlp_edge.reporting.formatting import format_seconds
from fedlp_edge.reporting.summary import values_of
from fedlp_edge.system.printable import counted

DeviceState = Literal["ready", "training", "delivered", "lost", "rejected", "failed", "away", "set aside", "unfit"]
MAX_NAMED_DEVICES = 4
"""Number of failing devices that the picture names."""

LONGEST_GAP_SECONDS = 30 * 86400.0
"""Seconds between two events of one life of a run above which it is the clock that has moved, not the run."""

Phase = Literal["starting", "waiting", "round", "exporting", "finished", "stopped"]


@dataclass
class DeviceProgress:
    """The state of one device after the latest events.

    Attributes:
        reason: Why it is unfit or set aside; empty if it is neither.
        serving: What its installed model has answered; None if it serves none.
    """

    id: str
    profile: str = ""
    depth: int = 0
    lpr: float = 1.0
    samples: int = 0
    state: DeviceState = "ready"
    loss: float | None = None
    bytes_up: int = 0
    updates: int = 0
    reason: str = ""
    serving: ServingReport | None = None


@dataclass
class RunProgress:
    """The state of the run after the latest events.

    Attributes:
        round: Number of the running or latest round; 0 before the first.
        finished_rounds: Number of committed rounds.
        metric: Name of the metric that the run is judged by.
        answer: What the models answer with whose metric it is.
        values: Value of the metric on central test data after each round, by depth.
        on_devices: What devices measured of each model on their held-out samples, by depth; the latest one last.
        note: Line on the current activity, for people.
        trouble: Latest error, until the next round succeeds.
        after_last_round: What is left to do after the last round, for people; empty before that.
    """

    run: str = ""
    fleet: str = ""
    model: str = ""
    depths: int = 0
    parameters: int = 0
    rounds: int = 0
    round: int = 0
    finished_rounds: int = 0
    phase: Phase = "starting"
    note: str = "starting"
    trouble: str = ""
    after_last_round: str = ""
    started: float = 0.0
    latest: float = 0.0
    bytes_down: int = 0
    bytes_up: int = 0
    devices: dict[str, DeviceProgress] = field(default_factory=dict)
    metric: str = "accuracy"
    answer: AnswerMode = "exit"
    values: dict[int, list[float]] = field(default_factory=dict)
    on_devices: dict[int, list[DeviceScores]] = field(default_factory=dict)
    exported: list[ModelExported] = field(default_factory=list)

    def apply(self, event: AnyEvent) -> None:
        """Applies one event to the state."""
        self.started = self.started or event.time
        gap = event.time - (self.latest or event.time)
        if not 0.0 <= gap < LONGEST_GAP_SECONDS:
            self.started += gap  # the machine's clock was set, as on a board without a battery once it has a network
        self.latest = event.time
        _apply(event, self)

    def end_without_a_word(self) -> None:
        """Takes into account that nobody is at work on the run any more, though its events do not say so."""
        last = datetime.fromtimestamp(self.latest).astimezone().isoformat(sep=" ", timespec="seconds")
        where = f"in round {self.round}" if self.round else "before its first round"
        self.phase = "stopped"
        self.note = (
            f"no process of this machine is at work on it: it was killed, or the power went, {where}, after {last}; "
            "the same command goes on"
        )

    @property
    def is_over(self) -> bool:
        """Whether the run has finished or stopped."""
        return self.phase in ("finished", "stopped")

    @property
    def out(self) -> list[DeviceProgress]:
        """Returns the devices that are unfit or set aside, which people should check."""
        return [self.devices[name] for name in sorted(self.devices) if self.devices[name].reason]

    def device(self, name: str) -> DeviceProgress:
        """Returns the state of a device, new if the id is unknown."""
        return self.devices.setdefault(name, DeviceProgress(name))


@singledispatch
def _apply(_event: Event, _progress: RunProgress) -> None:
    """Ignores an event that changes nothing in the state."""


@_apply.register
def _(event: RunStarted, progress: RunProgress) -> None:
    progress.run = event.run
    progress.fleet = event.fleet
    progress.model = event.model
    progress.depths = event.depths
    progress.parameters = event.parameters
    progress.rounds = event.rounds
    progress.metric = event.metric
    progress.answer = event.answer
    progress.phase = "waiting"
    progress.trouble = event.remark
    progress.note = "waiting for devices"
    # A run may continue days later, with devices that first have to come back.
    progress.started = event.time
    for device in progress.devices.values():
        device.state = "away"
    progress.exported.clear()
    progress.after_last_round = ""
    if event.resumed_at is not None:
        # Committed rounds count, even if this view has not seen their events.
        progress.finished_rounds = progress.round = event.resumed_at - 1
        progress.note = f"going on {where_to_go_on(event)}"


@_apply.register
def _(event: DeviceJoined, progress: RunProgress) -> None:
    device = progress.device(event.device)
    device.profile = event.profile
    device.samples = event.samples
    device.depth = event.depth
    device.lpr = event.lpr
    if device.state in ("away", "unfit", "set aside"):
        device.state, device.reason = "ready", ""


@_apply.register
def _(event: DeviceLeft, progress: RunProgress) -> None:
    progress.device(event.device).state = "away"


@_apply.register
def _(event: DeviceServing, progress: RunProgress) -> None:
    progress.device(event.device).serving = event.report


@_apply.register
def _(event: DeviceUnfit, progress: RunProgress) -> None:
    device = progress.device(event.device)
    device.state, device.reason = "unfit", event.explanation
    progress.trouble = f"{event.device}: {event.explanation}"


@_apply.register
def _(event: DeviceSetAside, progress: RunProgress) -> None:
    device = progress.device(event.device)
    device.state, device.reason = "set aside", event.reason
    progress.trouble = f"{event.device} is set aside: {event.reason}"


@_apply.register
def _(event: AllDevicesUnfit, progress: RunProgress) -> None:
    progress.trouble = event.explanation


@_apply.register
def _(event: RoundStarted, progress: RunProgress) -> None:
    progress.phase = "round"
    progress.round = event.round
    progress.note = f"round {event.round}, at most {format_seconds(event.deadline_seconds)}"
    for name in event.devices:
        progress.device(name).state = "training"


@_apply.register
def _(event: UpdateAccepted, progress: RunProgress) -> None:
    device = progress.device(event.device)
    device.state, device.reason = "delivered", ""
    device.loss = event.loss
    device.bytes_up += event.bytes_up
    device.updates += 1


@_apply.register
def _(event: UpdateRejected, progress: RunProgress) -> None:
    progress.device(event.device).state = "rejected"
    progress.trouble = f"update of {event.device} refused ({event.code}): {event.reason}"


@_apply.register
def _(event: DeviceFailed, progress: RunProgress) -> None:
    progress.device(event.device).state = "failed"
    progress.trouble = f"{event.device}: {event.reason}"


@_apply.register
def _(event: WorkerReplaced, progress: RunProgress) -> None:
    progress.note = event.reason


@_apply.register
def _(event: RoundFinished, progress: RunProgress) -> None:
    # A simulation evaluates a round while the next one is running.
    progress.round = max(progress.round, event.round)
    progress.finished_rounds += 1
    progress.note = f"round {event.round} took {format_seconds(event.seconds)}, {counted(event.contributors, 'device')}"
    progress.trouble = ""
    progress.bytes_down += event.bytes_down
    progress.bytes_up += event.bytes_up
    for depth, value in values_of(progress.metric, event.metrics, event.accuracy).items():
        progress.values.setdefault(depth, []).append(value)
    _note_scores(event.on_devices, progress)
    for name in event.lost:
        if not progress.device(name).reason:
            progress.device(name).state = "lost"
    if event.lost:
        progress.trouble = f"nothing in time from {', '.join(event.lost)}"
    if event.warning:
        progress.trouble = event.warning
    elif out := progress.out:
        progress.trouble = "; ".join(
            f"{device.id} is {device.state}: {device.reason}" for device in out[:MAX_NAMED_DEVICES]
        )


@_apply.register
def _(event: RoundFailed, progress: RunProgress) -> None:
    progress.trouble = f"round {event.round} asks again: {counted(event.contributors, 'update')}, {event.quorum} needed"


@_apply.register
def _(event: WaitingForDevices, progress: RunProgress) -> None:
    progress.phase = "waiting"
    progress.note = event.words


@_apply.register
def _(event: WaitingForBroker, progress: RunProgress) -> None:
    progress.note = f"waiting for the broker at {event.url}"


@_apply.register
def _(event: BrokerDisconnected, progress: RunProgress) -> None:
    progress.trouble = f"broker lost: {event.reason}"


@_apply.register
def _(_event: BrokerReconnected, progress: RunProgress) -> None:
    progress.trouble = ""
    progress.note = "broker is back"


@_apply.register
def _(event: Exporting, progress: RunProgress) -> None:
    progress.phase = "exporting"
    progress.after_last_round = "while its models were exported and handed out"
    models = (
        "an ONNX model and checking it"
        if len(event.depths) == 1
        else f"{len(event.depths)} ONNX models and checking them"
    )
    progress.note = f"exporting {models} against PyTorch"


@_apply.register
def _(event: ModelExported, progress: RunProgress) -> None:
    progress.exported.append(event)


@_apply.register
def _(event: ModelRefused, progress: RunProgress) -> None:
    progress.trouble = f"depth {event.depth} has no ONNX file: {event.reason}"


@_apply.register
def _(event: ModelDelivered, progress: RunProgress) -> None:
    if not event.received:
        progress.trouble = f"{event.device} has no final model: {event.reason}"


@_apply.register
def _(event: ModelsProved, progress: RunProgress) -> None:
    _note_scores(event.on_devices, progress)
    for proof in event.proofs:
        if proof.proved < proof.asked:
            lacking = f"proved on {proof.proved} of {counted(proof.asked, 'device')}"
            progress.trouble = (
                f"the ONNX file of depth {proof.depth} is {lacking}: {next(iter(proof.problems.values()))}"
            )


def _note_scores(on_devices: Mapping[int, DeviceScores], progress: RunProgress) -> None:
    for depth, scores in on_devices.items():
        progress.on_devices.setdefault(depth, []).append(scores)


@_apply.register
def _(event: RunFinished, progress: RunProgress) -> None:
    progress.phase = "finished"
    progress.note = f"finished after {event.rounds} rounds" + (f": {event.enough}" if event.enough else "")


@_apply.register
def _(event: RunStopped, progress: RunProgress) -> None:
    progress.phase = "stopped"
    progress.note = f"stopped {where_stopped(event, progress)}" + (f": {event.detail}" if event.detail else "")


def where_to_go_on(event: RunStarted) -> str:
    """Returns where a run goes on, for people: there is no round to name after the last one."""
    round = event.resumed_at or 1
    return f"at round {round}" if round <= event.rounds else f"after round {event.rounds}, the last"


def where_stopped(event: RunStopped, progress: RunProgress) -> str:
    """Returns where a run stopped, for people; the event names the next round even where there is none.

    Args:
        event: Event.
        progress: State of the run.
    """
    if progress.after_last_round:  # which a run that had enough reaches before its number of rounds
        return f"after round {event.round - 1}, the last, {progress.after_last_round}"
    if 0 < progress.rounds < event.round:
        return f"after round {progress.rounds}, the last"
    return f"in round {event.round}"
