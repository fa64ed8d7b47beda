"""This module defines a simulation's jobs and the workers' replies, as plain data for every engine.

Arrays (samples, model weights, sums) travel separately, in the way that is cheapest for the engine.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.device_scores import HeldOutScores
from fedlp_edge.core.metrics.answers import AnswerMode
from fedlp_edge.core.metrics.exit_sums import ExitSums
from fedlp_edge.core.settings import ComputeMode, Encoding, MemorySaving, ModelSettings, TrainingSettings
from fedlp_edge.core.start_weights import StartWeights, StartWeightsReport
from fedlp_edge.core.targets import TargetKind
from fedlp_edge.errors import DataError, FedLPError, FreezeError, ModelError, StartWeightsError


class WorkerSetup(msgspec.Struct, frozen=True):
    """The settings of an experiment that a worker needs beside the samples.

    Attributes:
        model: Settings of the model.
        weights: Start weights, whose file every worker reads; None for random values.
        seed: Seed of the run.
        training: Training settings of every device, but for the step size of a round.
        uniform: Whether all updates have the same update weight.
        freeze: Whether only sent and withheld tensors are trained (``prune="train"``).
        classes: Number of classes in the data.
        scale: Factor of the stored values (``learning.data.Dataset``).
        mean: Mean by channel, for the normalisation.
        std: Standard deviation by channel, for the normalisation.
        holdout: Share of its samples that every device keeps out of training and judges models on.
        processor: Processor that computes: ``cpu``, ``cuda`` or ``auto``.
        fresh_statistics: Whether devices measure statistics of batch norms for the weights that they have trained.
        answer: What models answer with, by which devices judge them.
    """

    model: ModelSettings
    seed: int
    training: TrainingSettings
    uniform: bool
    freeze: bool
    classes: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights: StartWeights | None = None
    holdout: float = 0.0
    fresh_statistics: bool = False
    processor: Literal["auto", "cpu", "cuda"] = "cpu"
    answer: AnswerMode = "exit"


class WorkerReady(msgspec.Struct, frozen=True, tag=True):
    """This reply has the model's blueprint, and what was taken of its start weights; the values travel separately."""

    blueprint: Blueprint
    start_weights: StartWeightsReport | None = None


class TrainDevice(msgspec.Struct, frozen=True, tag=True):
    """This job trains one device and adds its update to the round's sums.

    Attributes:
        number: Number of the device, from 0, which selects its samples.
        device: Id of the device.
        round: Number of the round of its task.
        version: Version of the global model weights that training starts from.
        capacity: Bound of the summed update weights.
        factor: Factor of the update weight.
        most: Largest update weight before the factor.
        depth: Depth of the device's submodel.
        sent: Names of the tensors that the device sends, by unit id.
        encoding: Encoding of the update.
        training: Training settings of the round, with its step size.
        compute: Compute mode.
        withheld: Ids of the units whose trained values are withheld.
        reused: Ids of the units that start from ``reused_values``; any other personal head is initialised at random.
        reused_values: Values that an earlier round left on the device, as safetensors; empty if there are none.
        counted: Whether the update arrives in time; a late one changes only the device's withheld values.
        residuals: Residuals of the device's last update that counted, as safetensors, empty if there are none; None
            without error feedback.
        anchor: Values that the proximal term pulls the exchanged weights towards, as safetensors; empty for those that
            training starts from.
    """

    number: int
    device: str
    round: int
    version: int
    capacity: int
    depth: int
    sent: dict[str, tuple[str, ...]]
    encoding: Encoding
    training: TrainingSettings = TrainingSettings()
    compute: ComputeMode = "float32"
    memory_saving: MemorySaving = MemorySaving()
    factor: int = 1
    most: int = 1
    withheld: tuple[str, ...] = ()
    reused: tuple[str, ...] = ()
    reused_values: bytes = b""
    counted: bool = True
    residuals: bytes | None = None
    anchor: bytes = b""


class JudgeDevice(msgspec.Struct, frozen=True, tag=True):
    """This job judges a version of the global model on the held-out samples of a device.

    Attributes:
        number: Number of the device, from 0, which selects its samples.
        device: Id of the device.
        version: Version of the global model weights.
        depth: Depth of the device's submodel.
        reused: Ids of the device's personal heads.
        reused_values: Their values, as safetensors; empty if there are none.
    """

    number: int
    device: str
    version: int
    depth: int
    reused: tuple[str, ...] = ()
    reused_values: bytes = b""


class ChooseCompute(msgspec.Struct, frozen=True, tag=True):
    """This job finds the fastest correct compute mode for a depth, with the samples of device ``number``."""

    number: int
    depth: int


class EvaluatePart(msgspec.Struct, frozen=True, tag=True):
    """This job evaluates exits of a version of the global model on samples ``start`` to ``stop`` of the test set."""

    version: int
    depths: tuple[int, ...]
    start: int
    stop: int


class EvaluatePersonalHead(msgspec.Struct, frozen=True, tag=True):
    """This job evaluates a device's personal head with a version of the global layers, on a part of the test set.

    Attributes:
        withheld_values: Withheld values of the device, heads included, as safetensors.
        samples: Approximate number of test samples, spread over the whole test set.
    """

    device: str
    version: int
    depth: int
    withheld_values: bytes
    samples: int


class CollectSums(msgspec.Struct, frozen=True, tag=True):
    """This job collects a worker's sums of the round and resets them."""

    capacity: int


class DescribeTask(msgspec.Struct, frozen=True, tag=True):
    """This job asks what a task of the user's own learns, before an experiment is open: data are read accordingly."""

    model: ModelSettings


class ComputeMetrics(msgspec.Struct, frozen=True, tag=True):
    """This job has a task of the user's own compute metrics from the sums of a whole test set."""

    sums: ExitSums


SimulationJob = (
    TrainDevice
    | JudgeDevice
    | ChooseCompute
    | EvaluatePart
    | EvaluatePersonalHead
    | CollectSums
    | DescribeTask
    | ComputeMetrics
)


class DeviceTrained(msgspec.Struct, frozen=True, tag=True):
    """This reply says that a device was trained and its update added to the sums.

    Attributes:
        samples: Samples per epoch, which are the update weight unless update weights are uniform.
        loss: Mean training loss of the last epoch.
        seconds: Seconds of training alone.
        bytes_up: Bytes of the encoded update.
        compute: Compute mode that was used.
        withheld_values: Withheld values, as safetensors; empty if there are none.
        sizes: Norms of the update, which ``core.plausibility`` compares.
        scores: What the model that training started from is worth on the device's held-out samples, by depth.
        residuals: Residuals that the update leaves with error feedback, as safetensors; empty without.
    """

    device: str
    round: int
    samples: int
    loss: float
    seconds: float
    bytes_up: int
    compute: ComputeMode
    withheld_values: bytes = b""
    sizes: dict[str, float] = {}
    scores: dict[int, HeldOutScores] = {}
    residuals: bytes = b""


class DeviceJudged(msgspec.Struct, frozen=True, tag=True):
    """This reply has what a model is worth on the held-out samples of a device.

    Attributes:
        scores: Scores by depth of the exit; empty if the device holds out no sample.
    """

    device: str
    scores: dict[int, HeldOutScores] = {}


class ComputeChosen(msgspec.Struct, frozen=True, tag=True):
    """This reply gives the compute mode for the devices of a depth."""

    depth: int
    compute: ComputeMode


class DeviceGaveUp(msgspec.Struct, frozen=True, tag=True):
    """This reply says that a device could not train; its round goes on without it."""

    device: str
    round: int
    reason: str


class PartEvaluated(msgspec.Struct, frozen=True, tag=True):
    """This reply has the results of an evaluated part of the test set.

    Attributes:
        start: Number of the first sample of the part.
        sums: Sums of the exits.
    """

    start: int
    sums: ExitSums


class PersonalHeadEvaluated(msgspec.Struct, frozen=True, tag=True):
    """This reply has the results of an evaluated personal head.

    Attributes:
        depth: Depth of the device.
        sums: Sums of the exit of this depth.
    """

    device: str
    depth: int
    sums: ExitSums


class TaskDescribed(msgspec.Struct, frozen=True, tag=True):
    """This reply has the kind of the targets that a task of the user's own learns."""

    targets: TargetKind


class MetricsComputed(msgspec.Struct, frozen=True, tag=True):
    """This reply has the metrics of a task of the user's own.

    Attributes:
        metrics: Metrics of each exit alone, by depth and name.
        ensembles: Metrics of the mean of the outputs of the exits up to a depth, by depth and name.
    """

    metrics: dict[int, dict[str, float]]
    ensembles: dict[int, dict[str, float]]


class SumsCollected(msgspec.Struct, frozen=True, tag=True):
    """This reply says that the sums were collected; they travel separately."""


class JobFailed(msgspec.Struct, frozen=True, tag=True):
    """This reply says that a job failed, so that the experiment ends.

    Attributes:
        kind: Kind of the error: ``data``, ``model``, ``freeze``, ``start-weights``, ``memory`` or ``worker``.
        reason: Reason in one line, for people.
    """

    kind: str
    reason: str


FAMILIES: tuple[tuple[str, type[FedLPError]], ...] = (
    ("data", DataError),
    ("freeze", FreezeError),
    ("start-weights", StartWeightsError),
    ("model", ModelError),
)
"""Kinds of errors in a reply, the narrower ones first; any other is of the kind ``worker``."""


class SimulationWorkerDied(msgspec.Struct, frozen=True, tag=True):
    """The engine's reply for a worker process that died: a new process has replaced it, without its sums.

    Attributes:
        exit: End of the process, as text that follows "a worker process".
        remedy: Advice, as text.
        crashed: Whether native code in the process crashed.
    """

    exit: str
    remedy: str
    crashed: bool = False


Reply = (
    DeviceTrained
    | DeviceJudged
    | ComputeChosen
    | DeviceGaveUp
    | PartEvaluated
    | PersonalHeadEvaluated
    | SumsCollected
    | TaskDescribed
    | MetricsComputed
    | JobFailed
    | SimulationWorkerDied
)
