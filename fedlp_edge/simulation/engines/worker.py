"""The work of one simulation worker: trains one virtual device after the other, with the code of the real ones.

What a device would have sent is encoded and decoded as on the wire, and added at once to this worker's share of the
round's exact sums. Memory therefore does not grow with the number of devices, and who trained what does not matter.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from torch import Tensor

from fedlp_edge.core.algorithm.aggregation import Array, LayerwiseMean, SumArrays
from fedlp_edge.core.algorithm.plausibility import sizes_of
from fedlp_edge.core.blueprint import Blueprint, Unit
from fedlp_edge.core.metrics.exit_sums import ExitSums
from fedlp_edge.core.seeds import head_seed, training_seed
from fedlp_edge.core.targets import BUILT_IN_TASKS
from fedlp_edge.errors import RejectedUpdateError
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.data.holdout import split_holdout
from fedlp_edge.learning.evaluation import JUDGED_AT_ONCE
from fedlp_edge.learning.model.layered import LayeredModel
from fedlp_edge.learning.model.state_values import read_only_tensor
from fedlp_edge.learning.tasks.choose_task import make_task
from fedlp_edge.learning.torch_device import choose_device, make_repeatable
from fedlp_edge.learning.training.compute_cache import ComputeCache
from fedlp_edge.learning.training.fallback import Execution
from fedlp_edge.learning.training.local_round import LocalRound, LocalTask
from fedlp_edge.learning.training.loop import DivergedError
from fedlp_edge.learning.training.single_samples import check_single_samples
from fedlp_edge.learning.zoo.build import build_untrained
from fedlp_edge.learning.zoo.prepared import PreparedModel, prepare, state_names
from fedlp_edge.learning.zoo.weight_loading import start_from
from fedlp_edge.simulation.engines.evaluator import Evaluator
from fedlp_edge.simulation.engines.jobs import (
    ChooseCompute,
    CollectSums,
    ComputeChosen,
    ComputeMetrics,
    DescribeTask,
    DeviceGaveUp,
    DeviceJudged,
    DeviceTrained,
    EvaluatePart,
    EvaluatePersonalHead,
    JudgeDevice,
    MetricsComputed,
    PartEvaluated,
    PersonalHeadEvaluated,
    Reply,
    SimulationJob,
    SumsCollected,
    TaskDescribed,
    TrainDevice,
    WorkerSetup,
)
from fedlp_edge.simulation.engines.weight_tensors import ArrayState, arrays_of
from fedlp_edge.simulation.shared_memory import AnyArray
from fedlp_edge.system.machine_cache import cache_directory
from fedlp_edge.wire.admission import admit_part, check_values
from fedlp_edge.wire.compression import encode_unit, rounding_seed
from fedlp_edge.wire.error_feedback import ErrorFeedback
from fedlp_edge.wire.tensors import pack, pieces, unpack


def describe_task(job: DescribeTask) -> TaskDescribed:
    """Says what a task of the user's own learns.

    Raises:
        ModelError: Its code does not work.
    """
    return TaskDescribed(make_task(job.model, max(1, job.model.classes), allow_models=None).targets)


class SimulationWorker:
    """One experiment on one worker.

    Args:
        setup: The experiment.
        samples: ``train/x``, ``train/y``, ``test/x``, ``test/y``; ``members``, the indices of all devices' samples one
            after the other; ``starts``, where those of each device begin, and the end.

    Attributes:
        blueprint: Blueprint of the model.
        start_weights: Report on what was taken of the experiment's start weights; None if it has none.
    """

    def __init__(self, setup: WorkerSetup, samples: Mapping[str, AnyArray]) -> None:
        self._setup = setup
        self._device, note = choose_device(setup.processor)
        if note:
            print(note, file=sys.stderr, flush=True)
        make_repeatable(self._device)
        self._train = self._dataset(samples["train/x"], samples["train/y"])
        self._members = read_only_tensor(samples["members"])
        self._starts = samples["starts"]
        # The experiment is the user's own, so the model that it names may run.
        self._whole: LayeredModel = build_untrained(setup.model, setup.seed, allow_models=None)
        check_single_samples(self._whole, setup.training.batch_size)
        weights = setup.weights
        self.start_weights = None if weights is None else start_from(self._whole, setup.model, weights)
        self.blueprint: Blueprint = self._whole.blueprint(setup.model.name)
        own_task = setup.model.task not in BUILT_IN_TASKS
        self._train.check_fits(self.blueprint.input_shape, self.blueprint.classes, own_task=own_task)
        self._task = make_task(setup.model, self.blueprint.classes, allow_models=None)
        self._evaluator = None
        if "test/x" in samples:
            test = self._dataset(samples["test/x"], samples["test/y"])
            self._evaluator = Evaluator(self._whole, self.blueprint, self._train, test, self._device, self._task)
        held = self._whole.state_dict()
        self._constants: dict[str, Array] = {name: held[name].numpy() for name in self.blueprint.constants}
        self._choices = ComputeCache(self._device, cache_directory("compute"))
        self._parts: dict[int, PreparedModel] = {}
        self._versions: dict[int, Mapping[str, Array]] = {}
        self._mean: LayerwiseMean | None = None

    def initial_weights(self) -> dict[str, Array]:
        """What the global model was built with."""
        held = self._whole.state_dict()
        return {name: held[name].numpy() for name in state_names(self.blueprint.global_units)}

    def publish(self, version: int, weights: Mapping[str, Array]) -> None:
        """Takes note of a version of the global weights; the arrays are read when they are needed."""
        self._versions = {known: arrays for known, arrays in self._versions.items() if arrays is not weights}
        self._versions[version] = weights

    def retire(self, version: int) -> None:
        """Forgets a version."""
        self._versions.pop(version, None)

    def do(self, job: SimulationJob) -> Reply:
        """Carries out an order; what ``CollectSums`` asks for, ``collect`` gives."""
        match job:
            case TrainDevice():
                reply: Reply = self.train(job)
            case JudgeDevice():
                reply = self.judge(job)
            case EvaluatePart():
                reply = self.evaluate(job)
            case EvaluatePersonalHead():
                reply = self.evaluate_personal_head(job)
            case ChooseCompute():
                reply = self.choose_compute(job)
            case CollectSums():
                reply = SumsCollected()
            case ComputeMetrics(sums):
                reply = self._metrics(sums)
            case DescribeTask():
                reply = describe_task(job)
        return reply

    def _metrics(self, sums: ExitSums) -> MetricsComputed:
        metrics = {depth: self._task.metrics(of_exit) for depth, of_exit in sums.exits.items()}
        return MetricsComputed(metrics, {depth: self._task.metrics(of) for depth, of in sums.ensembles.items()})

    def train(self, job: TrainDevice) -> DeviceTrained | DeviceGaveUp:
        """Trains a device, and counts its update if it arrives."""
        data, held_out = self._share(job.number)
        local_round = self._local_round(job, data)
        sent = _EncodedUpdate(job, self._setup.seed)
        execution = Execution(job.compute, job.memory_saving)
        scores = {} if held_out is None else local_round.judge(held_out, JUDGED_AT_ONCE)
        try:
            outcome = local_round.run(execution, sent.add).outcome
        except (DivergedError, RejectedUpdateError) as error:
            return DeviceGaveUp(job.device, job.round, str(error))
        if job.counted:
            self._count(job, sent.deltas, outcome.samples)
        withheld = arrays_of(local_round.withheld_values())
        return DeviceTrained(
            device=job.device,
            round=job.round,
            samples=outcome.samples,
            loss=outcome.loss,
            seconds=outcome.seconds,
            bytes_up=sent.nbytes,
            compute=outcome.compute,
            withheld_values=pack(withheld) if withheld else b"",
            sizes=sizes_of(self.blueprint.exchanged_by(job.depth), sent.deltas) if job.counted else {},
            scores=scores,
            residuals=b"" if sent.feedback is None else pack(sent.feedback.residuals),
        )

    def judge(self, job: JudgeDevice) -> DeviceJudged:
        """Judges a version of the model on what a device holds out."""
        data, held_out = self._share(job.number)
        if held_out is None:
            return DeviceJudged(job.device)
        return DeviceJudged(job.device, self._local_round(job, data).judge(held_out, JUDGED_AT_ONCE))

    def choose_compute(self, job: ChooseCompute) -> ComputeChosen:
        """Finds the mode for a depth, or remembers what this machine has found before."""
        model, data = self._part(job.depth).model, self._share(job.number)[0].to(self._device)
        found = self._choices.execution(
            model, data, self._setup.training, self._setup.model, job.depth, task=self._task
        )
        return ComputeChosen(job.depth, found.compute)

    def collect(self) -> SumArrays:
        """The sums since the last call, see ``LayerwiseMean.arrays``; empty if no update was counted."""
        sums = self._mean.arrays() if self._mean is not None else SumArrays()
        self._mean = None
        return sums

    def evaluate(self, job: EvaluatePart) -> PartEvaluated:
        """Judges some exits on a part of the test set."""
        return self._evaluating.evaluate(job, self._versions[job.version])

    def evaluate_personal_head(self, job: EvaluatePersonalHead) -> PersonalHeadEvaluated:
        """Judges a device's own head."""
        return self._evaluating.evaluate_personal_head(job, self._versions[job.version])

    @property
    def _evaluating(self) -> Evaluator:
        if self._evaluator is None:
            raise ValueError("this experiment has no test set")
        return self._evaluator

    def _dataset(self, x: AnyArray, y: AnyArray) -> Dataset:
        setup = self._setup
        kind = BUILT_IN_TASKS.get(setup.model.task) or describe_task(DescribeTask(setup.model)).targets
        names = tuple(str(number) for number in range(setup.classes)) if kind == "class" else ()
        return Dataset.of_tensor(
            read_only_tensor(x), read_only_tensor(y), names, setup.scale, setup.mean, setup.std, targets=kind
        )

    def _share(self, number: int) -> tuple[Dataset, Dataset | None]:
        """The samples that one device trains on, and those that it holds out; None if it holds out none."""
        keep = self._members[int(self._starts[number]) : int(self._starts[number + 1])]
        return split_holdout(self._train.subset(keep), self._setup.holdout)

    def _part(self, depth: int) -> PreparedModel:
        if depth not in self._parts:
            self._parts[depth] = prepare(self._whole.submodel(depth), self.blueprint, self._device)
        return self._parts[depth]

    def _local_round(self, job: TrainDevice | JudgeDevice, data: Dataset) -> LocalRound:
        setup, task = self._setup, job if isinstance(job, TrainDevice) else None
        return LocalRound(
            LocalTask(
                depth=job.depth,
                training=task.training if task else setup.training,
                sent=task.sent if task else {},
                withheld=task.withheld if task else (),
                reused=job.reused,
                freeze=setup.freeze,
                seed=training_seed(setup.seed, task.round, job.device) if task else 0,
                head_seed=head_seed(setup.seed, job.device),
                # The statistics of a model that is scaled by width are not exchanged.
                fresh_statistics=setup.fresh_statistics and not self.blueprint.widths,
                learning_task=self._task,
                answer=setup.answer,
            ),
            self._part(job.depth),
            data,
            self._device,
            # Constants first: what is published has no values of them, though perhaps places for some.
            global_state=ArrayState(self._constants, self._versions[job.version]),
            device_state=ArrayState(unpack(job.reused_values)) if job.reused else None,
            build=lambda seed: build_untrained(setup.model, seed, allow_models=None),
            anchor=ArrayState(unpack(task.anchor)) if task and task.anchor else None,
        )

    def _count(self, job: TrainDevice, deltas: Mapping[str, Array], samples: int) -> None:
        """Adds an update to the sums of the round."""
        if self._mean is None:
            self._mean = LayerwiseMean(job.capacity, self.blueprint.nested_shapes, self.blueprint.statistics)
        self._mean.add(deltas, job.factor * (1 if self._setup.uniform else min(samples, job.most)))


class _EncodedUpdate:
    """What the coordinator takes out of a device's update once it has been encoded, sent and admitted.

    Args:
        job: Job of the device.
        seed: Seed of the run.

    Attributes:
        feedback: Residuals of the device; None without error feedback.
    """

    def __init__(self, job: TrainDevice, seed: int) -> None:
        self._job = job
        self._seed = seed
        self.feedback = None if job.residuals is None else ErrorFeedback(unpack(job.residuals) if job.residuals else {})
        self._units: dict[str, tuple[dict[str, Array], int]] = {}

    @property
    def deltas(self) -> dict[str, Array]:
        """What is added to the sums, by tensor."""
        return {name: delta for deltas, _ in self._units.values() for name, delta in deltas.items()}

    @property
    def nbytes(self) -> int:
        """Bytes of the update on its way."""
        return sum(size for _, size in self._units.values())

    def add(self, unit: Unit, update: Mapping[str, Tensor]) -> None:
        """Takes what is sent of a unit, in place of what an earlier attempt sent of it.

        Raises:
            RejectedUpdateError: The coordinator would refuse it.
        """
        sent = arrays_of(update)
        specs = tuple(spec for spec in unit.tensors if spec.name in sent)
        if self._job.encoding == "none":
            check_values(specs, sent)
            self._units[unit.id] = sent, sum(len(piece) for piece in pieces(sent))
            return
        if self.feedback is not None:
            blob = self.feedback.encode(unit.id, specs, sent, self._job.encoding)
        else:
            seed = rounding_seed(self._seed, self._job.round, self._job.device, unit.id)
            blob = encode_unit(specs, sent, self._job.encoding, seed=seed)
        self._units[unit.id] = admit_part(unit, specs, blob, self._job.encoding), len(blob)
