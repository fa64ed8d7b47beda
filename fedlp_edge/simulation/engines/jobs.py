"""What a simulation asks of its workers, and what they answer: plain data, the same for every engine.

Arrays (samples, weights, sums) travel beside them, in whatever way is cheapest for the engine.
"""

from __future__ import annotations

import msgspec

from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.exit_counts import ExitCounts
from fedlp_edge.core.settings import ComputeMode, Encoding, MemorySaving, ModelSettings, TrainingSettings


class WorkerSetup(msgspec.Struct, frozen=True):
    """All that a worker must know of an experiment, beside the samples.

    Attributes:
        model: to build.
        seed: of the run.
        training: of every device.
        uniform: whether all updates weigh the same.
        freeze: train only what is sent, and what stays on the device (``prune="train"``).
        classes: number of classes in the data.
        scale: of the stored values, see ``learning.data.Dataset``.
        mean: likewise.
        std: likewise.
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


class WorkerReady(msgspec.Struct, frozen=True, tag=True):
    """The model as data; its initial values come beside it."""

    blueprint: Blueprint


class TrainDevice(msgspec.Struct, frozen=True, tag=True):
    """Train one device and add its update to the round's sums.

    Attributes:
        number: of the device, from 0: which samples are its own.
        device: its id.
        round: of its task.
        version: of the global weights that it starts from.
        capacity: of the sums.
        factor: on the weight of its update.
        most: that its update weighs without the factor.
        depth: of its submodel.
        sent: names of the tensors that it sends, by unit id.
        encoding: of its update.
        compute: how it computes.
        withheld: ids of the units whose values stay on the device after the round.
        reused: ids of the units that start from values of the device itself; a personal head that does not is drawn.
        reused_values: values that an earlier round left on the device, as safetensors; empty if none did.
        counted: whether the update arrives; what comes too late changes nothing but the device's own values.
    """

    number: int
    device: str
    round: int
    version: int
    capacity: int
    depth: int
    sent: dict[str, tuple[str, ...]]
    encoding: Encoding
    compute: ComputeMode = "float32"
    memory_saving: MemorySaving = MemorySaving()
    factor: int = 1
    most: int = 1
    withheld: tuple[str, ...] = ()
    reused: tuple[str, ...] = ()
    reused_values: bytes = b""
    counted: bool = True


class ChooseCompute(msgspec.Struct, frozen=True, tag=True):
    """Find the fastest correct compute mode for a depth, with the samples of device ``number``."""

    number: int
    depth: int


class EvaluatePart(msgspec.Struct, frozen=True, tag=True):
    """Judge some exits of a version of the global model on samples ``start`` to ``stop`` of the test set."""

    version: int
    depths: tuple[int, ...]
    start: int
    stop: int


class EvaluatePersonalHead(msgspec.Struct, frozen=True, tag=True):
    """Judge a device's own head behind a version of the global layers, on samples from all over the test set.

    Attributes:
        withheld_values: what stays on the device, as safetensors; its heads are among them.
        samples: about how many are looked at.
    """

    device: str
    version: int
    depth: int
    withheld_values: bytes
    samples: int


class CollectSums(msgspec.Struct, frozen=True, tag=True):
    """Hand over the sums of the round, and begin new ones."""

    capacity: int


SimulationJob = TrainDevice | ChooseCompute | EvaluatePart | EvaluatePersonalHead | CollectSums


class DeviceTrained(msgspec.Struct, frozen=True, tag=True):
    """
    Attributes:
        samples: seen per epoch; what the update weighs, unless weights are uniform.
        loss: mean over the last epoch.
        seconds: of training alone.
        bytes_up: of its encoded update.
        compute: mode that it was computed in.
        withheld_values: what stays on the device, as safetensors; empty if nothing does.
        sizes: of the update, see ``core.plausibility``.
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


class ComputeChosen(msgspec.Struct, frozen=True, tag=True):
    """The mode in which devices of a depth shall compute."""

    depth: int
    compute: ComputeMode


class DeviceGaveUp(msgspec.Struct, frozen=True, tag=True):
    """The device could not train; its round goes on without it."""

    device: str
    round: int
    reason: str


class PartEvaluated(msgspec.Struct, frozen=True, tag=True):
    """
    Attributes:
        start: of the part.
        counts: of its samples.
    """

    start: int
    counts: ExitCounts


class PersonalHeadEvaluated(msgspec.Struct, frozen=True, tag=True):
    """
    Attributes:
        depth: of the device.
        counts: of the exit of this depth.
    """

    device: str
    depth: int
    counts: ExitCounts


class SumsCollected(msgspec.Struct, frozen=True, tag=True):
    """The sums have been handed over, beside this."""


class JobFailed(msgspec.Struct, frozen=True, tag=True):
    """The order could not be carried out: the experiment cannot go on.

    Attributes:
        kind: ``data``, ``model``, ``memory`` or ``worker``.
        reason: one line for people.
    """

    kind: str
    reason: str


class SimulationWorkerDied(msgspec.Struct, frozen=True, tag=True):
    """Said by the engine in place of a worker that ended by itself: a new one is there, without the old one's sums.

    Attributes:
        exit: how it ended, in words that go on from "a worker process".
        remedy: what may help, in words.
        crashed: whether native code in it crashed.
    """

    exit: str
    remedy: str
    crashed: bool = False


Reply = (
    DeviceTrained
    | ComputeChosen
    | DeviceGaveUp
    | PartEvaluated
    | PersonalHeadEvaluated
    | SumsCollected
    | JobFailed
    | SimulationWorkerDied
)
