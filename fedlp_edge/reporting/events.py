"""The events of a run, one JSON line each in ``events.jsonl``.

They are the only channel from the coordinator to anything that watches: the terminal's live view, the
demo, a script. ``time`` is in seconds since the epoch, for people; nothing is computed from it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from fedlp_edge.system.printable import unprintable_fields


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag=True, omit_defaults=True):
    """Base of all events. Their words are fit to be printed, those of an older file too."""

    time: float

    def __post_init__(self) -> None:
        for name, words in unprintable_fields(self):
            msgspec.structs.force_setattr(self, name, words)


class RunStarted(Event, frozen=True, kw_only=True):
    """The coordinator begins, or goes on at round ``resumed_at``; ``remark`` says what is odd about the model."""

    run: str
    fleet: str
    model: str
    depths: int
    parameters: int
    rounds: int
    resumed_at: int | None = None
    remark: str = ""


class DeviceJoined(Event, frozen=True, kw_only=True):
    """Also written when a device comes back, or its assignment changes."""

    device: str
    profile: str
    samples: int
    depth: int
    lpr: float
    explanation: str


class DeviceLeft(Event, frozen=True, kw_only=True):
    """The device said goodbye, or its connection broke."""

    device: str


class DeviceUnfit(Event, frozen=True, kw_only=True):
    """The device cannot take part until it changes: its data do not fit the model, or it cannot bear even depth 1."""

    device: str
    explanation: str


class DeviceSetAside(Event, frozen=True, kw_only=True):
    """The device failed so often in a row that nobody waits for it; from round ``again`` on it is tried again."""

    device: str
    failures: int
    again: int
    reason: str


class NobodyFit(Event, frozen=True, kw_only=True):
    """None of the devices that are there can do its task: the run ends after ``seconds`` unless that changes."""

    explanation: str
    seconds: float


class RoundStarted(Event, frozen=True, kw_only=True):
    """``devices`` are the cohort."""

    round: int
    devices: tuple[str, ...]
    deadline_seconds: float


class UpdateAccepted(Event, frozen=True, kw_only=True):
    """An update was admitted and journaled."""

    round: int
    device: str
    layers_sent: tuple[str, ...]
    samples: int
    loss: float
    seconds: float
    bytes_up: int
    peak_memory: int = 0


class UpdateRejected(Event, frozen=True, kw_only=True):
    """Admission refused an update; ``code`` is the stable reason."""

    round: int
    device: str
    code: str
    reason: str


class DeviceFailed(Event, frozen=True, kw_only=True):
    """The device reported that it could not do its work."""

    round: int | None
    device: str
    reason: str


class WorkerReplaced(Event, frozen=True, kw_only=True):
    """A worker process of a simulation died, and a new one does its work again; changes nothing of what is learned."""

    reason: str


class RoundFinished(Event, frozen=True, kw_only=True):
    """``lost`` are the devices of the cohort that did not deliver in time; ``doubt`` what is odd about the accuracy."""

    round: int
    seconds: float
    accuracy: dict[int, float]
    contributors: int
    lost: tuple[str, ...]
    bytes_down: int
    bytes_up: int
    doubt: str = ""


class RoundFailed(Event, frozen=True, kw_only=True):
    """Fewer updates than the quorum by the deadline, or no more to come: it goes on with others, or asks again."""

    round: int
    contributors: int
    quorum: int


class WaitingForDevices(Event, frozen=True, kw_only=True):
    """The coordinator waits for devices."""

    present: int
    wanted: int


class BrokerLost(Event, frozen=True, kw_only=True):
    """The connection to the broker broke; it is tried again for ever."""

    reason: str


class BrokerBack(Event, frozen=True, kw_only=True):
    """The connection to the broker is there again."""


class Exporting(Event, frozen=True, kw_only=True):
    """The ONNX files of these depths are being written and checked."""

    depths: tuple[int, ...]


class ModelExported(Event, frozen=True, kw_only=True):
    """One ONNX file is written and checked; ``file`` is relative to the run's ``onnx`` directory."""

    file: str
    depth: int
    max_abs_diff: float
    accuracy: float


class ModelRefused(Event, frozen=True, kw_only=True):
    """A depth gets no ONNX file, since it cannot be exported or computes something else."""

    depth: int
    reason: str


class ModelDelivered(Event, frozen=True, kw_only=True):
    """A device has its final model, or will not get it (``received`` is then false, and ``reason`` says why)."""

    device: str
    received: bool
    reason: str = ""


class RunFinished(Event, frozen=True, kw_only=True):
    """The last round is committed; ``accuracy`` is by depth."""

    rounds: int
    accuracy: dict[int, float]
    model_digest: str
    seconds: float


class RunStopped(Event, frozen=True, kw_only=True):
    """Ended before its last round; the same command goes on, after an error once that is mended."""

    round: int
    reason: Literal["signal", "error"]
    detail: str = ""


AnyEvent = (
    RunStarted
    | DeviceJoined
    | DeviceLeft
    | DeviceUnfit
    | DeviceSetAside
    | NobodyFit
    | RoundStarted
    | UpdateAccepted
    | UpdateRejected
    | DeviceFailed
    | WorkerReplaced
    | RoundFinished
    | RoundFailed
    | WaitingForDevices
    | BrokerLost
    | BrokerBack
    | Exporting
    | ModelExported
    | ModelRefused
    | ModelDelivered
    | RunFinished
    | RunStopped
)
