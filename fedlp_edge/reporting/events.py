"""This module defines the events of a run, each one JSON line in ``events.jsonl``.

They are the only channel from the coordinator to observers: the terminal's live view, the demo, a script. ``time`` is
in seconds since the epoch, for people; nothing is computed from it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from fedlp_edge.core.device_scores import DeviceScores
from fedlp_edge.core.metrics.answers import AnswerMode
from fedlp_edge.core.metrics.serving_report import ServingReport
from fedlp_edge.reporting.summary import FileProof
from fedlp_edge.system.printable import unprintable_fields


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag=True, omit_defaults=True):
    """The base of all events, whose texts are safe to print, even when read from an older file."""

    time: float

    def __post_init__(self) -> None:
        for name, words in unprintable_fields(self):
            msgspec.structs.force_setattr(self, name, words)


class RunStarted(Event, frozen=True, kw_only=True):
    """This event says that a run starts or continues at round ``resumed_at``; ``remark`` is about the model,
    ``start_weights`` says what it starts from, ``metric`` names the metric that it is judged by, and ``answer`` says
    what the models answer with whose metric it is."""

    run: str
    fleet: str
    model: str
    depths: int
    parameters: int
    rounds: int
    resumed_at: int | None = None
    remark: str = ""
    start_weights: str = ""
    metric: str = "accuracy"
    answer: AnswerMode = "exit"


class DeviceJoined(Event, frozen=True, kw_only=True):
    """This event says that a device joined, came back, or got another assignment."""

    device: str
    profile: str
    samples: int
    depth: int
    lpr: float
    explanation: str


class DeviceLeft(Event, frozen=True, kw_only=True):
    """This event says that a device disconnected, or lost its connection."""

    device: str


class DeviceServing(Event, frozen=True, kw_only=True):
    """This event says what the installed model of a device has answered since it was loaded."""

    device: str
    report: ServingReport


class DeviceUnfit(Event, frozen=True, kw_only=True):
    """This event says that a device cannot take part: its data do not fit the model, or even depth 1 is too large."""

    device: str
    explanation: str


class DeviceSetAside(Event, frozen=True, kw_only=True):
    """This event says that a device is set aside until round ``again``, after repeated failures."""

    device: str
    failures: int
    again: int
    reason: str


class AllDevicesUnfit(Event, frozen=True, kw_only=True):
    """This event says that no present device can do its task: the run ends after ``seconds`` unless that changes."""

    explanation: str
    seconds: float


class RoundStarted(Event, frozen=True, kw_only=True):
    """This event says that a round starts with the cohort ``devices``."""

    round: int
    devices: tuple[str, ...]
    deadline_seconds: float


class UpdateAccepted(Event, frozen=True, kw_only=True):
    """This event says that an update was admitted and journaled."""

    round: int
    device: str
    layers_sent: tuple[str, ...]
    samples: int
    loss: float
    seconds: float
    bytes_up: int
    peak_memory: int = 0


class UpdateRejected(Event, frozen=True, kw_only=True):
    """This event says that admission refused an update; ``code`` is the ``RejectionReason``."""

    round: int
    device: str
    code: str
    reason: str


class DeviceFailed(Event, frozen=True, kw_only=True):
    """This event says that a device reported a failed task or assignment."""

    round: int | None
    device: str
    reason: str


class WorkerReplaced(Event, frozen=True, kw_only=True):
    """This event says that a simulation's worker process died and its work is repeated, with the same model."""

    reason: str


class RoundFinished(Event, frozen=True, kw_only=True):
    """This event says that a round is committed.

    Attributes:
        accuracy: Accuracy of the new model on central test data, by depth; empty without such data, and for a task
            without accuracy.
        metrics: All metrics of the new model on central test data, by depth and name.
        on_devices: What devices measured of the model before, on their held-out samples, by depth.
        not_reporting: Number of contributors that measured nothing, though samples are held out.
        lost: Devices that sent no update in time.
        warning: Suspicion about the accuracy; empty for none.
    """

    round: int
    seconds: float
    accuracy: dict[int, float]
    metrics: dict[int, dict[str, float]] = {}
    on_devices: dict[int, DeviceScores] = {}
    not_reporting: int = 0
    contributors: int
    lost: tuple[str, ...]
    bytes_down: int
    bytes_up: int
    warning: str = ""


class RoundFailed(Event, frozen=True, kw_only=True):
    """This event says that a round has fewer updates than the quorum, so that further devices are asked."""

    round: int
    contributors: int
    quorum: int


class WaitingForDevices(Event, frozen=True, kw_only=True):
    """This event says that the coordinator waits for devices.

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

    @property
    def words(self) -> str:
        """The event in words."""
        here = self.present + self.preparing
        ready = f", and {self.preparing} of them {_be(self.preparing)} getting ready" if self.preparing else ""
        if not self.unable:
            return f"waiting for devices: {here} of {max(here, self.wanted)} are there{ready}"
        more = max(0, self.wanted - here)
        unable = f"{self.unable} that {_be(self.unable)} there cannot take part now"
        if more or not ready:
            return f"waiting for {more} more; {unable}"
        return f"waiting for {self.preparing} to get ready; {unable}"


def _be(number: int) -> str:
    return "is" if number == 1 else "are"


class WaitingForBroker(Event, frozen=True, kw_only=True):
    """This event says that a run that goes on waits for its broker, which was not there when it was started."""

    url: str


class BrokerDisconnected(Event, frozen=True, kw_only=True):
    """This event says that the connection to the broker is lost; the coordinator reconnects for ever."""

    reason: str


class BrokerReconnected(Event, frozen=True, kw_only=True):
    """This event says that the connection to the broker is restored."""


class Exporting(Event, frozen=True, kw_only=True):
    """This event says that the ONNX files of these depths are being written and checked."""

    depths: tuple[int, ...]


class ModelExported(Event, frozen=True, kw_only=True):
    """This event says that an ONNX file is written and checked; ``file`` is relative to the directory ``onnx``.

    ``accuracy`` is None for a file that could only be checked on made inputs.
    """

    file: str
    depth: int
    max_abs_diff: float
    accuracy: float | None = None


class ModelRefused(Event, frozen=True, kw_only=True):
    """This event says that a depth has no ONNX file, since its export failed or computes other values."""

    depth: int
    reason: str


class ModelDelivered(Event, frozen=True, kw_only=True):
    """This event says whether a device received its final model; if not, ``reason`` says why."""

    device: str
    received: bool
    reason: str = ""


class ModelsProved(Event, frozen=True, kw_only=True):
    """This event says that the devices have compared their ONNX files with PyTorch, and judged the final model.

    Attributes:
        proofs: What they found about each file.
        on_devices: What they measured of the final model on their held-out samples, by depth.
    """

    proofs: tuple[FileProof, ...]
    on_devices: dict[int, DeviceScores] = {}


class RunFinished(Event, frozen=True, kw_only=True):
    """This event says that the last round is committed; accuracy and digest are those of the model that is exported.

    Attributes:
        accuracy: Accuracy by depth.
        metrics: All metrics on central test data, by depth and name.
        enough: Why the run ended before its last round; empty if it did not.
        best: Round that made the best model, if that one is exported.
    """

    rounds: int
    accuracy: dict[int, float]
    metrics: dict[int, dict[str, float]] = {}
    model_digest: str
    seconds: float
    enough: str = ""
    best: int | None = None


class RunStopped(Event, frozen=True, kw_only=True):
    """This event says that a run ended before it was finished; the same command continues it at ``round``.

    After the last round, while its models are exported and handed out, ``round`` is one more than that.
    """

    round: int
    reason: Literal["signal", "error"]
    detail: str = ""


AnyEvent = (
    RunStarted
    | DeviceJoined
    | DeviceLeft
    | DeviceServing
    | DeviceUnfit
    | DeviceSetAside
    | AllDevicesUnfit
    | RoundStarted
    | UpdateAccepted
    | UpdateRejected
    | DeviceFailed
    | WorkerReplaced
    | RoundFinished
    | RoundFailed
    | WaitingForDevices
    | WaitingForBroker
    | BrokerDisconnected
    | BrokerReconnected
    | Exporting
    | ModelExported
    | ModelRefused
    | ModelDelivered
    | ModelsProved
    | RunFinished
    | RunStopped
)
