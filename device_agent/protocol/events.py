"""Defines events, which say what happened to the device, and effects, which say what its service must do about it.

Events go into ``DeviceProtocol.handle``; effects come out and are carried out by ``service``, in order. Neither side
calls the other, so a test plays a whole run with literal values and no clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from device_agent.protocol.update import Update, UpdateId
from fedlp_edge.core.blueprint import Blueprint, TensorSpec
from fedlp_edge.core.device_data import DataFacts
from fedlp_edge.core.metrics.serving_report import ServingReport
from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.transport.base import TransportEvent
from fedlp_edge.wire.messages import Install, InstallReport, Message, ModelProof, Task, UnitVersion
from fedlp_edge.wire.topics import Topics

FailureKind = Literal["memory", "model", "data", "worker"]


@dataclass(frozen=True, slots=True)
class Identity:
    """The fleet, the device and the session of this agent.

    Attributes:
        topics: Topics of its fleet.
        device: Id of the device within the fleet.
        session: Drawn anew at every start; a later start sorts after an earlier one.
    """

    topics: Topics
    device: str
    session: str


# Events, besides those of the transport


@dataclass(frozen=True, slots=True)
class DeviceMeasured:
    """This event says that the worker has loaded the data and run its benchmark."""

    facts: DeviceFacts


@dataclass(frozen=True, slots=True)
class ModelBuilt:
    """This event says that the worker has built and split the model, and that this device's samples fit it.

    Attributes:
        model: Model that was built.
        blueprint: Blueprint of the model.
        data: Facts about the samples.
    """

    model: ModelSettings
    blueprint: Blueprint
    data: DataFacts | None = None


@dataclass(frozen=True, slots=True)
class BuildFailed:
    """This event says that the worker could not build the model."""

    model: ModelSettings
    kind: FailureKind
    reason: str


@dataclass(frozen=True, slots=True)
class RoundTrained:
    """This event says that a round is trained, and that its update is in the outbox."""

    update: Update


@dataclass(frozen=True, slots=True)
class TrainingFailed:
    """This event says that a round could not be trained."""

    fingerprint: str
    kind: FailureKind
    reason: str


@dataclass(frozen=True, slots=True)
class ChunkDelivered:
    """This event says that the broker took a chunk of an update."""

    update: UpdateId
    index: int


@dataclass(frozen=True, slots=True)
class ChunkRefused:
    """This event says that the broker does not carry a message as long as this chunk's was."""

    update: UpdateId
    index: int


@dataclass(frozen=True, slots=True)
class ModelChecked:
    """This event says that the final model was compared with the PyTorch model of the same weights, or could not be.

    Attributes:
        proof: What was found, for the coordinator.
        differs: Whether the file computes something else, so that it must not be used.
    """

    proof: ModelProof
    differs: bool = False


@dataclass(frozen=True, slots=True)
class ModelInstalled:
    """This event says that the final model is in its place; ``path`` is for people."""

    path: str


@dataclass(frozen=True, slots=True)
class InstallFailed:
    """This event says that the final model does not load, or cannot be written."""

    reason: str


@dataclass(frozen=True, slots=True)
class InstallationReported:
    """The installation of a release has come to another state."""

    report: InstallReport


@dataclass(frozen=True, slots=True)
class FilesWanted:
    """An installation needs more of the files that its message names.

    Attributes:
        install: Message of the roll-out.
        names: Names of the files.
    """

    install: Install
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NothingToExport:
    """This event says that this device has no head of its own that it could export."""

    reason: str


@dataclass(frozen=True, slots=True)
class ServingReported:
    """The installed model has answered requests."""

    report: ServingReport


@dataclass(frozen=True, slots=True)
class Leave:
    """This event says that the agent was told to stop."""


@dataclass(frozen=True, slots=True)
class Tick:
    """This event says that only time has passed."""


Event = (
    TransportEvent
    | DeviceMeasured
    | ModelBuilt
    | BuildFailed
    | RoundTrained
    | TrainingFailed
    | ChunkDelivered
    | ChunkRefused
    | ModelChecked
    | ModelInstalled
    | InstallFailed
    | InstallationReported
    | FilesWanted
    | NothingToExport
    | ServingReported
    | Leave
    | Tick
)


# Effects


@dataclass(frozen=True, slots=True)
class Publish:
    """This effect sends a control message."""

    topic: str
    message: Message
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Subscribe:
    """This effect subscribes to a topic, now and after every reconnect."""

    topic: str


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """This effect ends the subscription to a topic."""

    topic: str


@dataclass(frozen=True, slots=True)
class MeasureAgain:
    """This effect has the worker load the data and run its benchmark again; ``DeviceMeasured`` follows."""


@dataclass(frozen=True, slots=True)
class BuildModel:
    """This effect has the worker build the model, and check that this device's samples fit it."""

    model: ModelSettings


@dataclass(frozen=True, slots=True)
class TrainRound:
    """This effect has the worker train a round and put the update into the outbox.

    Attributes:
        task: Task of the round; every unit of its manifest is in the cache.
        fingerprint: Fingerprint of the task.
        order: Ids of the units that are exchanged, in blueprint order.
        sent: Names of the tensors whose deltas are sent, by unit id.
        bytes_down: Model bytes received for this round.
        payload_down: Bytes of the blobs among them, without headers and repeats.
        tensors: Descriptions of the tensors that ``sent`` names, in blueprint order.
        received: Tensors of the exchanged units, by unit id.
        withheld: Ids of the units that stay on the device after the round: personal heads, and units that are not due.
        reuse_since: Units that start from this device's own values, if it has some that a round made which is not older
            than the one named.
        until: Time when the round is over, by the agent's clock.
    """

    task: Task
    fingerprint: str
    order: tuple[str, ...]
    sent: dict[str, tuple[str, ...]]
    bytes_down: int
    tensors: dict[str, tuple[TensorSpec, ...]]
    payload_down: int = 0
    withheld: tuple[str, ...] = ()
    reuse_since: dict[str, int] = field(default_factory=dict)
    until: float = math.inf
    received: dict[str, tuple[TensorSpec, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SendChunk:
    """This effect publishes one chunk of an update, in pieces if it has more than ``most`` bytes."""

    update: UpdateId
    index: int
    most: int | None = None


@dataclass(frozen=True, slots=True)
class SendProbe:
    """This effect publishes bytes that this device itself receives again."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class ForgetUpdate:
    """This effect removes an update from the outbox."""

    update: UpdateId


@dataclass(frozen=True, slots=True)
class InstallModel:
    """This effect tries a downloaded ONNX file and puts it in its place."""

    run: str
    version: UnitVersion


@dataclass(frozen=True, slots=True)
class InstallFiles:
    """Try the downloaded files of a release, and put its model in place.

    Attributes:
        install: Message of the roll-out.
        names: Names of the files that were downloaded.
    """

    install: Install
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DropFiles:
    """This effect removes the downloaded files of a release that is not installed, which may have filled the disk."""


@dataclass(frozen=True, slots=True)
class CheckModel:
    """This effect has the worker compare a downloaded ONNX file with the PyTorch model of downloaded units.

    Attributes:
        model: Settings of the whole model.
        depth: Depth of the file.
        version: The file.
        layers: The units of that depth.
        holdout: Share of the samples that are held out; the models are compared on these.
        ranges: Whether to take the ranges of activations on these.
    """

    model: ModelSettings
    depth: int
    version: UnitVersion
    layers: tuple[UnitVersion, ...]
    holdout: float
    ranges: bool = False


@dataclass(frozen=True, slots=True)
class ExportModel:
    """Have the worker make an ONNX file of downloaded layers and this device's own head, and install it."""

    run: str
    rounds: int
    model: ModelSettings
    depth: int
    layers: tuple[UnitVersion, ...]
    holdout: float = 0.0


@dataclass(frozen=True, slots=True)
class Log:
    """This effect writes one line to the log."""

    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """This effect ends the agent.

    Attributes:
        error: What went wrong; None if nothing did.
        no_coordinator: Whether the agent ends since nobody gave it work.
    """

    error: str | None = None
    no_coordinator: bool = False


Effect = (
    Publish
    | Subscribe
    | Unsubscribe
    | MeasureAgain
    | BuildModel
    | TrainRound
    | SendChunk
    | SendProbe
    | ForgetUpdate
    | InstallModel
    | InstallFiles
    | DropFiles
    | CheckModel
    | ExportModel
    | Log
    | Stop
)
Effects = list[Effect]
