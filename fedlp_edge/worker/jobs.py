"""This module defines the jobs of a worker process and their results.

The agent and the coordinator never import torch: they give jobs to a worker, so that the MQTT connection stays alive
during training, and the kernel kills the worker, not the agent, when memory runs out.
Jobs and results are one JSON line each; tensors are exchanged as safetensors files named by path.
Model states are files whose keys are ``LayeredModel.state_dict()`` names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from fedlp_edge.core.blueprint import Blueprint, TensorSpec
from fedlp_edge.core.device_data import DataFacts, InputFacts
from fedlp_edge.core.device_scores import HeldOutScores
from fedlp_edge.core.metrics.answers import AnswerMode, WantedAnswer
from fedlp_edge.core.metrics.model_scores import ModelScores
from fedlp_edge.core.metrics.tensor_ranges import TensorRanges
from fedlp_edge.core.model_card import CardEntry, RefusedFile
from fedlp_edge.core.planning.calibration import Calibration
from fedlp_edge.core.settings import BroadcastEncoding, ComputeMode, ModelSettings, TrainingSettings
from fedlp_edge.core.start_weights import StartWeights, StartWeightsReport
from fedlp_edge.core.targets import TargetKind


class Job(msgspec.Struct, frozen=True, kw_only=True, tag_field="job", tag=True):
    """The base of all jobs."""


class Result(msgspec.Struct, frozen=True, kw_only=True, tag_field="result", tag=True):
    """The base of all results."""


class Build(Job, frozen=True, kw_only=True):
    """This job builds and splits the model; with ``state_path``, it writes the seeded initial global state there.

    With ``steps``, a training step of every depth is watched, and the costs in the blueprint say what it takes. With
    ``data``, a split of these is loaded and some samples go through every exit, so that what does not fit is found
    before the first round. With ``weights``, the initial state starts from these. With a ``batch_size``, a model that
    cannot be trained on so few samples at a time is refused.
    """

    model: ModelSettings
    seed: int = 0
    state_path: str | None = None
    weights: StartWeights | None = None
    steps: bool = False
    data: str = ""
    split: str = "train"
    batch_size: int = 0


class Built(Result, frozen=True, kw_only=True):
    """This result has the built model's blueprint.

    Attributes:
        blueprint: Blueprint of the model.
        samples: Number of samples in the named split; 0 if none was named.
        data: Facts about the data; None if none were named.
        remarks: Line on unused contents of the data's source; empty if there are none.
        start_weights: Report on what was taken of the start weights; None if the job names none.
        targets: Kind of the targets that a task of the user's own learns; None for a task that FedLP Edge contains.
        warnings: Lines on what people should know of the model, such as what it computes that layers do not.
    """

    blueprint: Blueprint
    targets: TargetKind | None = None
    start_weights: StartWeightsReport | None = None
    samples: int = 0
    data: DataFacts | None = None
    remarks: str = ""
    warnings: tuple[str, ...] = ()


class Measure(Job, frozen=True, kw_only=True):
    """This job loads the training data, if any are named, and runs the short training benchmark.

    With ``reload``, data that were loaded before are read again: they have changed.
    """

    data: str = ""
    split: str = "train"
    seconds: float = 0.3
    reload: bool = False


class DeviceMeasurement(Result, frozen=True, kw_only=True):
    """This result has the facts about the device's training data and its training speed.

    Attributes:
        samples: Number of samples in the training data; 0 without data.
        data: Facts about the training data; None without data.
        training_macs_per_second: Multiply-accumulate operations per second in training (``DeviceFacts``).
        processor: Processor that trains, ``"cpu"`` or ``"cuda"``.
        idle_memory: Resident bytes of the worker with torch and the data loaded.
        cuda_name: Name of the CUDA device; None without one.
        cuda_memory: Bytes of its memory that are free.
        cuda_shares_memory: Whether its memory is that of the host, as on a Jetson.
        found: Line on what the samples are, for the owner of the device; empty without data.
        data_reserve: Bytes that the samples may take on top once the model is known.
        remarks: Line on unused contents of the data's source; empty if there are none.
        note: Note for the owner of the device, such as that its GPU does not work; empty for none.
    """

    samples: int
    training_macs_per_second: float
    processor: str
    idle_memory: int
    cuda_name: str | None = None
    cuda_memory: int | None = None
    cuda_shares_memory: bool = False
    data: DataFacts | None = None
    found: str = ""
    data_reserve: int = 0
    remarks: str = ""
    note: str = ""


class Calibrate(Job, frozen=True, kw_only=True):
    """This job trains small networks and fits the machine's ``Calibration``, in a worker that ends afterwards.

    With ``processor_time``, other programs on the machine do not count; right for one thread alone.
    """

    processor_time: bool = False


class Calibrated(Result, frozen=True, kw_only=True):
    """This result has the machine's calibration.

    Attributes:
        calibration: Calibration of this machine with this number of threads.
        torch: Version of PyTorch for which the calibration is valid.
    """

    calibration: Calibration
    torch: str


class EncodedUnit(msgspec.Struct, frozen=True):
    """A file of one unit's weights as they were broadcast.

    Attributes:
        path: Path of the file.
        encoding: Encoding of the weights.
        tensors: Tensors of the unit.
    """

    path: str
    encoding: BroadcastEncoding
    tensors: tuple[TensorSpec, ...]


class Train(Job, frozen=True, kw_only=True):
    """This job trains one round and writes the deltas of the sent tensors.

    Attributes:
        state_paths: Files that hold the exchanged units' values at the start of the round in float32.
        encoded: Files that hold those of the other exchanged units.
        withheld: Ids of the units that are withheld after this round, personal heads included.
        withheld_path: File for the withheld values after the round; None if no unit is withheld.
        reused: Ids of the units that start from ``reused_path``: exchanged units instead of the global values, a
            personal head instead of random values.
        reused_path: File of the values that an earlier round withheld, never written, so that a repeated job gives
            the same update; None if there are none.
        sent: Names of the tensors whose deltas are written, by unit id.
        freeze: Whether only sent and withheld tensors are trained (``prune="train"``).
        seed: Seed of the sample order and dropout.
        head_seed: Seed of the initial values of a new personal head.
        delta_dir: Directory in which ``UNIT.safetensors`` is written for every unit in ``sent``.
        seconds: Seconds of training after which no further batch begins; None for no limit.
        after_crash: Description of the crash of the worker process that trained this round before; the round is then
            trained in float32 with the safest settings. Empty for the first attempt.
        holdout: Share of the samples that are kept out of training.
        judge: Whether the model that training starts from is judged on the held-out samples.
        answer: What exported models answer with, by which depths are judged.
        fresh_statistics: Whether statistics of batch norms are measured for the trained weights.
    """

    model: ModelSettings
    depth: int
    state_paths: tuple[str, ...]
    encoded: tuple[EncodedUnit, ...] = ()
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
    holdout: float = 0.0
    judge: bool = False
    answer: AnswerMode = "exit"
    fresh_statistics: bool = False


class Trained(Result, frozen=True, kw_only=True):
    """This result says that the round was trained.

    Attributes:
        samples: Samples per epoch, on average if the time did not suffice for all epochs.
        finished: Whether the time sufficed for all epochs.
        loss: Mean training loss of the last epoch.
        seconds: Seconds of training alone.
        peak_memory: Peak bytes on top of the idle worker.
        compute: Compute mode that was used (``TrainingSettings``).
        notes: One line for each failure that was worked around, for the owner of the device.
        scores: What the model that training started from is worth on the held-out samples, by depth of the exit; empty
            if it was not judged.
    """

    samples: int
    loss: float
    seconds: float
    peak_memory: int
    compute: ComputeMode = "float32"
    finished: bool = True
    notes: tuple[str, ...] = ()
    scores: dict[int, HeldOutScores] = {}


class Evaluate(Job, frozen=True, kw_only=True):
    """This job judges the models of some depths on a held-out split.

    Attributes:
        answer: What exported models answer with, by which the depths are judged.
        training_loss: Mean training loss of the devices, with which an accuracy at chance level is investigated; None
            for no investigation.
    """

    model: ModelSettings
    state_path: str
    depths: tuple[int, ...]
    answer: AnswerMode = "exit"
    data: str
    batch_size: int = 256
    training_loss: float | None = None


class Evaluated(Result, frozen=True, kw_only=True):
    """This result says what the models are worth.

    A loss that is no finite number is None, since JSON has no other word for it.

    Attributes:
        scores: What the models of the depths are worth.
        exit_loss: Mean loss of each exit alone, by depth, among the classes that the data hold; a single exit that
            somebody has spoilt shows less in a mean.
        samples: Number of samples.
        warning: Suspicion about an accuracy at chance level, with the cause that was found; empty if there is none.
    """

    scores: ModelScores
    exit_loss: dict[int, float | None]
    samples: int
    warning: str = ""


class Export(Job, frozen=True, kw_only=True):
    """This job writes one ONNX file per depth and checks each against PyTorch on real samples, independently.

    Attributes:
        state_paths: Files that together hold the global values.
        data: Its samples are what files are checked on, and its classes and normalisation go into them; empty to check
            them on made inputs.
        split: Split of the data, ``test`` or ``train``.
        inputs: What inputs look like, for files that are checked on made ones.
        holdout: Share of a device's samples that are held out; files are then checked on these.
        judge: Whether to measure what the files are worth on the held-out samples.
        metadata: Extra string properties (run, round, classes' names) for every file.
        personal_path: A device's own head for the depth, if heads are personal.
        thresholds: Thresholds of an anomaly detector by depth, as devices have measured them; used without data.
        answer: What the files answer with.
    """

    model: ModelSettings
    state_paths: tuple[str, ...]
    depths: tuple[int, ...]
    answer: WantedAnswer = "auto"
    data: str
    split: str = "test"
    inputs: InputFacts = InputFacts()
    holdout: float = 0.0
    judge: bool = False
    directory: str
    metadata: dict[str, str] = {}
    personal_path: str | None = None
    thresholds: dict[int, float] = {}


class ExportFamily(Export, frozen=True, kw_only=True):
    """This job writes all files of a model: each depth in each precision, and files with early exits.

    Attributes:
        precisions: Precisions of the files.
        early_exit: Confidence, 0 to 1, from which on a file with early exits stops; None for no such file.
        answering: Depths at which a file with early exits may stop; empty for all of ``depths``.
        opset: ONNX opset of the files.
        raw_input: Whether files take pictures as bytes, and normalise them in the graph.
        samples_path: File that some samples are written to, as the files take them, to measure what these cost; None
            for no such file.
        told: Ranges of activations that devices have told of the same weights, by device, for int8 files that are made
            without data.
    """

    precisions: tuple[Literal["fp32", "fp16", "int8"], ...] = ("fp32",)
    early_exit: float | None = None
    answering: tuple[int, ...] = ()
    opset: int = 18
    raw_input: bool = True
    samples_path: str | None = None
    told: dict[str, TensorRanges] = {}


class FamilyExported(Result, frozen=True, kw_only=True):
    """This result describes the files of a model.

    Attributes:
        files: Files that were written and checked.
        refused: Files that were asked for and not written.
        classes: Names of the classes, labels or targets by number.
        input_shape: Shape of one sample.
        input_type: Type of the values that the files take.
        features: Names of the columns of a table; empty for other samples.
        scale: Factor from stored values to the unit of ``mean`` and ``std``.
        mean: Mean per channel, or one mean for all channels.
        std: Standard deviation per channel, or one for all channels.
        metric: Name of the metric of each file's value; empty if there is none.
        samples: Number of held-out samples on which files were measured; 0 for made inputs.
        calibration: Where the samples for the ranges of int8 files are from, in words; empty without such files.
        opset: ONNX opset of the files.
    """

    files: tuple[CardEntry, ...]
    refused: tuple[RefusedFile, ...] = ()
    classes: tuple[str, ...] = ()
    input_shape: tuple[int, ...] = ()
    input_type: str = "float32"
    features: tuple[str, ...] = ()
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    metric: str = ""
    samples: int = 0
    calibration: str = ""
    opset: int = 0


class ExportedModel(msgspec.Struct, frozen=True):
    """One entry of ``summary.json``'s ``onnx`` list.

    Attributes:
        file: Name of the file in the export directory.
        depth: Depth of the model.
        max_abs_diff: Largest absolute difference of an output between onnxruntime and PyTorch.
        accuracy: Accuracy of onnxruntime on labelled samples; None for a file that was checked on made inputs.
        takes: What the file takes, as a command line names it: ``IMAGE``, ``TABLE.csv`` or ``SAMPLE.npy``.
    """

    file: str
    depth: int
    max_abs_diff: float
    accuracy: float | None = None
    takes: str = "IMAGE"


class RefusedModel(msgspec.Struct, frozen=True):
    """A depth without an ONNX file, and the reason in one line."""

    depth: int
    reason: str


class Exported(Result, frozen=True, kw_only=True):
    """
    Attributes:
        models: The files that were written and checked, in the order of the job's depths.
        refused: The depths that cannot be exported, or whose file computes something else.
        checks: What was found about each file on held-out samples, by depth.
    """

    models: tuple[ExportedModel, ...]
    refused: tuple[RefusedModel, ...] = ()
    checks: dict[int, ExportChecked] = {}


class TryExport(Job, frozen=True, kw_only=True):
    """This job tries before the first round whether the model can be exported, with arbitrary values and made inputs.

    Attributes:
        depths: Depths that are to be exported after the last round; depths that the model does not have are left out.
        directory: Directory in which a file is written for a while.
        answer: What the files are to answer with.
    """

    model: ModelSettings
    depths: tuple[int, ...]
    directory: str
    answer: WantedAnswer = "auto"


class ExportTried(Result, frozen=True, kw_only=True):
    """This result has the depths that cannot be exported, with the reasons."""

    refused: tuple[RefusedModel, ...] = ()

    def left_of(self, wanted: Sequence[int]) -> list[int]:
        """Returns those of the wanted depths that can be exported."""
        refused = {entry.depth for entry in self.refused}
        return [depth for depth in wanted if depth not in refused]

    @property
    def reason(self) -> str:
        """Why the first of these depths cannot be exported, which it names, and which others cannot either."""
        depths = [str(entry.depth) for entry in self.refused]
        others = f" (depths {', '.join(depths)})" if depths[1:] else ""
        return f"{self.refused[0].reason}{others}"


class CheckExport(Job, frozen=True, kw_only=True):
    """This job compares an ONNX file in onnxruntime with the PyTorch model of the same weights, on a device's samples.

    Attributes:
        depth: Depth of the file.
        state_paths: Files that together hold the values of the depth's units.
        file: Path of the ONNX file.
        data: Specification of the device's training data.
        holdout: Share of the samples that are held out, on which the models are compared.
        samples_directory: Directory into which some held-out samples are written, for the exam of the next model; empty
            for none.
        ranges: Whether to take the ranges of activations on the held-out samples.
    """

    model: ModelSettings
    depth: int
    state_paths: tuple[str, ...]
    file: str
    data: str
    holdout: float
    samples_directory: str = ""
    ranges: bool = False


class ExportChecked(Result, frozen=True, kw_only=True):
    """This result says what a device found about an ONNX file.

    Attributes:
        samples: Number of samples that were compared; 0 if onnxruntime is not installed.
        max_abs_diff: Largest absolute difference of an output.
        agreement: Share of the samples for which both give the same answer.
        problem: Why the file is not proved; empty if it is.
        differs: Whether the file computes something else, so that it must not be used.
        scores: What the model is worth on the held-out samples, by depth of the exit.
        ranges: Ranges of activations on held-out samples; empty if they were not asked for.
    """

    samples: int = 0
    max_abs_diff: float = 0.0
    agreement: float = 0.0
    problem: str = ""
    differs: bool = False
    scores: dict[int, HeldOutScores] = {}
    ranges: TensorRanges = ()


class Failed(Result, frozen=True, kw_only=True):
    """This result says that a job failed.

    Attributes:
        kind: Kind of the error: ``memory``, ``model``, ``freeze`` or ``start-weights`` (these settings of the model),
            ``data``, ``export`` (only for Export) or ``worker``.
        reason: Reason in one line, for people.
        again: Whether a new worker process may succeed, since the error persists in this one.
        without_gpu: Whether a new worker process may succeed that does not use the GPU.
    """

    kind: str
    reason: str
    again: bool = False
    without_gpu: bool = False


_MAX_REASON = 1000


def reason_line(text: str) -> str:
    """A reason as results carry it: one line of bounded length."""
    return " ".join(text.split())[:_MAX_REASON]


AnyJob = Build | Measure | Calibrate | Train | Evaluate | TryExport | Export | ExportFamily | CheckExport
AnyResult = (
    Built
    | DeviceMeasurement
    | Calibrated
    | Trained
    | Evaluated
    | ExportTried
    | Exported
    | FamilyExported
    | ExportChecked
    | Failed
)


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
