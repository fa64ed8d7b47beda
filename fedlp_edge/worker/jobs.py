"""This module defines the jobs of a worker process and their results.

The agent and the coordinator never import torch: they give jobs to a worker, so that the MQTT connection stays alive
during training, and the kernel kills the worker, not the agent, when memory runs out.
Jobs and results are one JSON line each; tensors are exchanged as safetensors files named by path.
Model states are files whose keys are ``LayeredModel.state_dict()`` names.
"""

from __future__ import annotations

import msgspec

from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.device_data import DataFacts
from fedlp_edge.core.planning.calibration import Calibration
from fedlp_edge.core.settings import ComputeMode, ModelSettings, TrainingSettings


class Job(msgspec.Struct, frozen=True, kw_only=True, tag_field="job", tag=True):
    """The base of all jobs."""


class Result(msgspec.Struct, frozen=True, kw_only=True, tag_field="result", tag=True):
    """The base of all results."""


class Build(Job, frozen=True, kw_only=True):
    """This job builds and splits the model; with ``state_path``, it writes the seeded initial global state there.

    With ``steps``, a training step of every depth is watched, and the costs in the blueprint say what it takes. With
    ``data``, a split of these is loaded and some samples go through every exit, so that what does not fit is found
    before the first round.
    """

    model: ModelSettings
    seed: int = 0
    state_path: str | None = None
    steps: bool = False
    data: str = ""
    split: str = "train"


class Built(Result, frozen=True, kw_only=True):
    """This result has the built model's blueprint.

    Attributes:
        blueprint: Blueprint of the model.
        samples: Number of samples in the named split; 0 if none was named.
        data: Facts about the data; None if none were named.
        remarks: Line on unused contents of the data's source; empty if there are none.
    """

    blueprint: Blueprint
    samples: int = 0
    data: DataFacts | None = None
    remarks: str = ""


class Measure(Job, frozen=True, kw_only=True):
    """This job loads the training data, if any are named, and runs the short training benchmark.

    With ``reload``, data that were loaded before are read again: they have changed.
    """

    data: str = ""
    split: str = "train"
    seconds: float = 0.3
    reload: bool = False


class DeviceMeasurement(Result, frozen=True, kw_only=True):
    """
    Attributes:
        samples: in the training data; 0 without.
        data: what they are; None without.
        training_macs_per_second: see ``DeviceFacts``.
        processor: ``"cpu"`` or ``"cuda"``.
        idle_memory: resident bytes of the worker with torch and the data loaded.
        remarks: what the data's source holds besides, in one line; empty if nothing.
        note: what the owner of the device should know, such as that its GPU does not work; empty for nothing.
    """

    samples: int
    training_macs_per_second: float
    processor: str
    idle_memory: int
    cuda_name: str | None = None
    cuda_memory: int | None = None
    data: DataFacts | None = None
    remarks: str = ""
    note: str = ""


class Calibrate(Job, frozen=True, kw_only=True):
    """This job trains small networks and fits the machine's ``Calibration``, in a worker that ends afterwards.

    With ``processor_time``, other programs on the machine do not count; right for one thread alone.
    """

    processor_time: bool = False


class Calibrated(Result, frozen=True, kw_only=True):
    """
    Attributes:
        calibration: of this machine with this number of threads.
        torch: version of PyTorch that it holds for.
    """

    calibration: Calibration
    torch: str


class Train(Job, frozen=True, kw_only=True):
    """Train one round and write the deltas of what is sent.

    Attributes:
        state_paths: files that together hold the exchanged units' values at the start of the round.
        withheld: ids of the units that stay on the device after this round, personal heads among them.
        withheld_path: where their values after the round go; None if there are none.
        reused: ids of the units that start from this device's own values: exchanged ones instead of from the global
            values, a personal head instead of from ``head_seed``.
        reused_path: those values, as an earlier round of this device left them; never written, so that the same job
            again gives the same update. None if there are none.
        sent: names of the tensors whose deltas are wanted, by unit id.
        freeze: train only what is sent, and what stays on the device (``prune="train"``).
        seed: of the sample order and dropout.
        head_seed: of a new personal head.
        delta_dir: a directory; ``UNIT.safetensors`` is written there for every unit in ``sent``.
        seconds: of training after which no further batch is begun; None for no limit.
        after_crash: what happened to the worker process that had this round before, in words; the round is then trained
            in the plainest way. Empty for the first time.
    """

    model: ModelSettings
    depth: int
    state_paths: tuple[str, ...]
    withheld: tuple[str, ...] = ()
    withheld_path: str | None = None
    reused: tuple[str, ...] = ()
    reused_path: str | None = None
    sent: dict[str, tuple[str, ...]]
    freeze: bool
    training: TrainingSettings
    seed: int
    head_seed: int
    data: str
    delta_dir: str
    seconds: float | None = None
    after_crash: str = ""


class Trained(Result, frozen=True, kw_only=True):
    """
    Attributes:
        samples: seen per epoch, on average if the time did not suffice for all epochs.
        finished: whether the time sufficed.
        loss: mean over the last epoch.
        seconds: of training alone.
        peak_memory: bytes on top of the idle worker.
        compute: mode that the result was computed in, see ``TrainingSettings``.
        notes: what failed and was done in another way, a line for each, for the owner of the device.
    """

    samples: int
    loss: float
    seconds: float
    peak_memory: int
    compute: ComputeMode = "float32"
    finished: bool = True
    notes: tuple[str, ...] = ()


class Evaluate(Job, frozen=True, kw_only=True):
    """This job evaluates accuracy and loss of a model state's exits on a held-out split.

    Attributes:
        training_loss: Mean training loss of the devices, with which an accuracy at chance level is investigated; None
            for no investigation.
    """

    model: ModelSettings
    state_path: str
    depths: tuple[int, ...]
    data: str
    batch_size: int = 256
    training_loss: float | None = None


class Evaluated(Result, frozen=True, kw_only=True):
    """Accuracy (0 to 1) and mean cross-entropy, by depth: of the exit alone, and of the ensemble of exits up to it.

    A loss that is no finite number is None, since JSON has no other word for it. ``known_loss`` is that of the exits
    alone among the classes that the data hold; empty if they hold all. ``doubt`` says what is suspicious about an
    accuracy at chance, with the cause that was found.
    """

    accuracy: dict[int, float]
    loss: dict[int, float | None]
    samples: int
    ensemble_accuracy: dict[int, float] = {}
    ensemble_loss: dict[int, float | None] = {}
    known_loss: dict[int, float | None] = {}
    doubt: str = ""


class Export(Job, frozen=True, kw_only=True):
    """This job writes one ONNX file per depth and checks each against PyTorch on real samples, independently.

    Attributes:
        state_paths: files that together hold the global values.
        data: its samples are what files are checked on, and its classes and normalisation go into them.
        split: of the data, ``test`` or ``train``.
        metadata: extra string properties (run, round, classes' names) for every file.
        personal_path: a device's own head for the depth, if heads are personal.
    """

    model: ModelSettings
    state_paths: tuple[str, ...]
    depths: tuple[int, ...]
    data: str
    split: str = "test"
    directory: str
    metadata: dict[str, str] = {}
    personal_path: str | None = None


class ExportedModel(msgspec.Struct, frozen=True):
    """One entry of ``summary.json``'s ``onnx`` list; ``file`` is relative to the export directory."""

    file: str
    depth: int
    max_abs_diff: float
    accuracy: float


class RefusedModel(msgspec.Struct, frozen=True):
    """A depth without an ONNX file, and the reason in one line."""

    depth: int
    reason: str


class Exported(Result, frozen=True, kw_only=True):
    """
    Attributes:
        models: the files that were written and checked, in the order of the job's depths.
        refused: the depths that cannot be exported, or whose file computes something else.
    """

    models: tuple[ExportedModel, ...]
    refused: tuple[RefusedModel, ...] = ()


class Failed(Result, frozen=True, kw_only=True):
    """This result says that a job failed.

    Attributes:
        kind: Kind of the error: ``memory``, ``model``, ``data``, ``export`` (only for Export) or ``worker``.
        reason: Reason in one line, for people.
        again: Whether a new worker process may succeed, since the error persists in this one.
    """

    kind: str
    reason: str
    again: bool = False


_MAX_REASON = 1000


def reason_line(text: str) -> str:
    """A reason as results carry it: one line of bounded length."""
    return " ".join(text.split())[:_MAX_REASON]


AnyJob = Build | Measure | Calibrate | Train | Evaluate | Export
AnyResult = Built | DeviceMeasurement | Calibrated | Trained | Evaluated | Exported | Failed


class Request(msgspec.Struct, frozen=True):
    """A job with the number that its reply will carry."""

    id: int
    job: AnyJob


class Reply(msgspec.Struct, frozen=True):
    """The reply to the request of the same number.

    Attributes:
        id: Number of the request.
        result: Result of the job.
        last: Whether the process ends now, and leaves its other requests to a new one.
    """

    id: int
    result: AnyResult
    last: bool = False


class WorkerOptions(msgspec.Struct, frozen=True):
    """The options of a worker process, which its command line has as one JSON argument.

    Attributes:
        threads: Number of torch's threads; 0 for torch's default.
        device: Device of the computation: ``auto``, ``cpu`` or ``cuda``.
        memory_bytes: Enforced limit of training's bytes on top of the idle worker; None for no limit.
        process_bytes: Enforced limit of the whole process's bytes while it trains on a CPU; None for no limit.
        memory_group: Directory of a memory control group that the process enters and may limit; None for none.
        allow_models: Names ``module:callable`` that this worker may import.
    """

    threads: int = 1
    device: str = "auto"
    memory_bytes: int | None = None
    process_bytes: int | None = None
    memory_group: str | None = None
    allow_models: tuple[str, ...] = ()

    @property
    def limits_memory(self) -> bool:
        """Whether the memory of training is limited."""
        return (self.memory_bytes, self.process_bytes, self.memory_group) != (None, None, None)
